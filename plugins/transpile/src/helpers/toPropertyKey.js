function NAME(value) {
  return Reflect.ownKeys({ [value]: 0 })[0];
}
