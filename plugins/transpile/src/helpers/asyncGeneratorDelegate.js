function NAME(inner) {
  let waiting = false;
  const ask = (key) => (input) => {
    if (waiting) {
      waiting = false;
      if (key === "throw") throw input;
      return input;
    }
    waiting = true;
    const value = new Promise((resolve) => resolve(inner[key](input)));
    return { value: { [Symbol.for("guesthouse.yield")]: 1, value }, done: false };
  };
  const outer = { next: ask("next"), [Symbol.iterator]() { return this; } };
  if (typeof inner.throw === "function") outer.throw = ask("throw");
  if (typeof inner.return === "function") outer.return = ask("return");
  return outer;
}
