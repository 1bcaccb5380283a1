function NAME(setter, before, receiver) {
  const values = before ? Array.from(before) : [];
  const at = values.length;
  return {
    set _(value) {
      values[at] = value;
      setter.apply(receiver, values);
    },
  };
}
