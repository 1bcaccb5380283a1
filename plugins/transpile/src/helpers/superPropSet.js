function NAME(home, key, value, receiver, strict, ofPrototype) {
  const done = Reflect.set(Object.getPrototypeOf(ofPrototype ? home.prototype : home), key, value, receiver);
  if (!done && strict) throw new TypeError("Cannot set property " + String(key));
  return value;
}
