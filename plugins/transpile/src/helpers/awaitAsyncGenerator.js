function NAME(value) {
  return { [Symbol.for("guesthouse.yield")]: 0, value };
}
