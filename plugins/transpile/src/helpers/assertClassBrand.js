function NAME(brand, object, result) {
  if (typeof brand === "function" ? brand === object : brand.has(object)) return arguments.length < 3 ? object : result;
  throw new TypeError("Private element is not present on this object");
}
