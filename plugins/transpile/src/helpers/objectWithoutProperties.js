function NAME(source, excluded) {
  const target = {};
  for (const key of source == null ? [] : Reflect.ownKeys(Object(source))) {
    if (!excluded.includes(key) && Object.prototype.propertyIsEnumerable.call(source, key)) target[key] = source[key];
  }
  return target;
}
