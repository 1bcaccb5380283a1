function NAME(body) {
  const special = Symbol.for("guesthouse.yield");
  return function () {
    const inner = body.apply(this, arguments);
    let last = Promise.resolve();
    const step = async (key, input) => {
      for (;;) {
        const result = inner[key](input);
        const wrapped = Object(result.value) === result.value && special in result.value;
        let value;
        try {
          value = await (wrapped ? result.value.value : result.value);
        } catch (error) {
          if (result.done) throw error;
          key = "throw";
          input = error;
          continue;
        }
        if (!wrapped) return { value, done: result.done };
        const again = key === "return" ? "return" : "next";
        if (result.value[special] === 0 || value.done) {
          key = again;
          input = value;
          continue;
        }
        return { value: inner[again](value).value, done: false };
      }
    };
    const ask = (key) => (input) => (last = last.then(() => step(key, input), () => step(key, input)));
    return {
      next: ask("next"),
      throw: ask("throw"),
      return: ask("return"),
      [Symbol.asyncIterator]() { return this; },
      [Symbol.toStringTag]: "AsyncGenerator",
    };
  };
}
