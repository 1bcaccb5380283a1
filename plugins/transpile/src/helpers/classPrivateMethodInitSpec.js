function NAME(object, brand) {
  if (brand.has(object)) throw new TypeError("Cannot initialize private elements twice on the same object");
  brand.add(object);
}
