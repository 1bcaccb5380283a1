function NAME(name) {
  throw new TypeError('"' + name + '" is read-only');
}
