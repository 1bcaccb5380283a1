function NAME(value) {
  if (value == null) throw new TypeError("Cannot destructure " + value);
}
