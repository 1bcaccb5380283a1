function NAME(fields, object) {
  if (!fields.has(object)) throw new TypeError("Cannot read private member from an object whose class did not declare it");
  return fields.get(object);
}
