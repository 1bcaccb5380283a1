function NAME(target, ...sources) {
  return Object.assign(target, ...sources);
}
