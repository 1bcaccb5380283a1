function NAME(iterable) {
  const method = iterable[Symbol.asyncIterator];
  if (method != null) return method.call(iterable);
  const sync = iterable[Symbol.iterator]();
  const settle = async (result) => ({ value: await result.value, done: result.done });
  return {
    next: async (value) => settle(sync.next(value)),
    return: async (value) => (sync.return ? settle(sync.return(value)) : { value, done: true }),
    throw: async (error) => {
      if (!sync.throw) throw error;
      return settle(sync.throw(error));
    },
  };
}
