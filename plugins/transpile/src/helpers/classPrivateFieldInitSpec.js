function NAME(object, fields, value) {
  if (fields.has(object)) throw new TypeError("Cannot initialize private elements twice on the same object");
  fields.set(object, value);
}
