function NAME(fields, object, value) {
  if (!fields.has(object)) throw new TypeError("Cannot write private member to an object whose class did not declare it");
  fields.set(object, value);
  return value;
}
