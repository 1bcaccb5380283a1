function NAME(decorators, target, key, given) {
  const count = arguments.length;
  let result = count < 3 ? target : given === null ? Object.getOwnPropertyDescriptor(target, key) : given;
  if (typeof Reflect === "object" && typeof Reflect.decorate === "function") {
    result = Reflect.decorate(decorators, target, key, result);
  } else {
    for (const decorator of decorators.slice().reverse()) {
      if (!decorator) continue;
      const changed = count < 3 ? decorator(result) : count > 3 ? decorator(target, key, result) : decorator(target, key);
      result = changed || result;
    }
  }
  if (count > 3 && result) Object.defineProperty(target, key, result);
  return result;
}
