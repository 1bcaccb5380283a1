function NAME() {
  const none = {};
  const stack = [];
  const suppressed = (error, former) => {
    if (typeof SuppressedError === "function") return new SuppressedError(error, former);
    return Object.assign(new Error("An error was suppressed during disposal"), { name: "SuppressedError", error, suppressed: former });
  };
  const add = (wait, value) => {
    if (value == null) {
      if (wait) stack.push({ wait });
      return value;
    }
    if (Object(value) !== value) throw new TypeError("using: an object, null or undefined was expected");
    let dispose = wait ? value[Symbol.asyncDispose || Symbol.for("Symbol.asyncDispose")] : undefined;
    if (dispose === undefined) {
      const sync = value[Symbol.dispose || Symbol.for("Symbol.dispose")];
      dispose = wait && typeof sync === "function" ? async function () { sync.call(this); } : sync;
    }
    if (typeof dispose !== "function") throw new TypeError("using: the object is not disposable");
    stack.push({ wait, value, dispose });
    return value;
  };
  return {
    e: none,
    u: (value) => add(false, value),
    a: (value) => add(true, value),
    d() {
      let error = this.e;
      const failed = (reason) => {
        error = error === none ? reason : suppressed(reason, error);
      };
      const end = () => {
        if (error !== none) throw error;
      };
      if (!stack.some((resource) => resource.wait)) {
        for (let resource; (resource = stack.pop()); ) {
          try {
            resource.dispose.call(resource.value);
          } catch (reason) {
            failed(reason);
          }
        }
        return end();
      }
      return (async () => {
        let waited = false;
        let owed = false;
        for (let resource; (resource = stack.pop()); ) {
          if (!resource.wait && owed && !waited) {
            await undefined;
            owed = false;
          }
          try {
            const result = resource.dispose ? resource.dispose.call(resource.value) : undefined;
            if (resource.wait && resource.dispose) {
              waited = true;
              await result;
            } else if (resource.wait) {
              owed = true;
            }
          } catch (reason) {
            failed(reason);
          }
        }
        if (owed && !waited) await undefined;
        end();
      })();
    },
  };
}
