function NAME(strings, raw) {
  return Object.freeze(Object.defineProperty(strings, "raw", { value: Object.freeze(raw || strings.slice()) }));
}
