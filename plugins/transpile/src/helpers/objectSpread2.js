function NAME(target, ...sources) {
  sources.forEach((source, index) => {
    if (index % 2) {
      Object.defineProperties(target, Object.getOwnPropertyDescriptors(source));
      return;
    }
    for (const key of source == null ? [] : Reflect.ownKeys(Object(source))) {
      if (Object.prototype.propertyIsEnumerable.call(source, key)) {
        Object.defineProperty(target, key, { value: source[key], enumerable: true, configurable: true, writable: true });
      }
    }
  });
  return target;
}
