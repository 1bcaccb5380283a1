function NAME(name) {
  throw new TypeError('"' + name + '" is write-only');
}
