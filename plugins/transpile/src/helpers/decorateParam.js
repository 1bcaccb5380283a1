function NAME(index, decorator) {
  return (target, key) => decorator(target, key, index);
}
