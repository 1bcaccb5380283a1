function NAME(home, key, receiver, flags) {
  const found = Reflect.get(Object.getPrototypeOf(flags & 1 ? home.prototype : home), key, receiver);
  return flags & 2 && typeof found === "function" ? (values) => found.apply(receiver, values) : found;
}
