// Forked by transpile-corpus.mjs with --experimental-vm-modules: runs what was made of one case, ours and esbuild's,
// each in a context of its own, and answers what each did. Names that nobody defines, and what is imported from
// elsewhere, stand for something that takes part in everything and writes down what is done to it. What a module
// declares is then used: functions are called, classes made, generators read.

import vm from 'node:vm';

const MOST = 3000;
const primitive = (value) => value === null || (typeof value !== 'object' && typeof value !== 'function');

const isClass = (value) => typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));

class Run {
  constructor(globals, imports) {
    this.log = [];
    this.depth = 0;
    this.ghosts = new Map();
    this.globals = globals;
    this.imports = imports;
  }

  note(text) {
    if (this.log.length < MOST) this.log.push(text);
  }

  ghost(name) {
    const run = this;
    const target = function () {};
    target.p1 = 1;
    target.p2 = 'two';
    const known = new Map();
    const proxy = new Proxy(target, {
      get(_, key, receiver) {
        if (key === Symbol.toPrimitive) return (hint) => (hint === 'number' ? 7 : `<${name}>`);
        if (key === Symbol.iterator) return function* () { run.note(`iterate ${name}`); yield run.ghost(`${name}[0]`); yield run.ghost(`${name}[1]`); };
        if (typeof key === 'symbol' && !/dispose/i.test(key.description)) return undefined;
        if (key === 'then') return undefined;
        if (key === 'length') return 2;
        if (key === 'name') return name;
        const text = String(key);
        if (text === 'constructor' && receiver !== proxy) return undefined;
        run.note(`get ${name}.${text}${receiver === proxy ? '' : ' of another'}`);
        if (text in target && text.length === 2) return target[text];
        if (!known.has(key)) known.set(key, run.ghost(`${name}.${text}`));
        return known.get(key);
      },
      set(_, key, value, receiver) {
        run.note(`set ${name}.${String(key)} = ${run.say(value)}`);
        // What inherits from this keeps it for itself.
        if (receiver !== proxy) return Reflect.defineProperty(receiver, key, { value, writable: true, enumerable: true, configurable: true });
        known.set(key, value);
        return true;
      },
      apply(_, self, list) {
        run.note(`call ${name}(${list.map((item) => run.say(item)).join(', ')})${run.ghosts.has(self) ? ` of ${run.ghosts.get(self)}` : self === undefined ? '' : ' of something'}`);
        list.forEach((item) => typeof item === 'function' && !run.ghosts.has(item) && run.use(`argument of ${name}`, item, true));
        // As a decorator it leaves things as they are.
        const [first, second] = list;
        const decorates = typeof second === 'string' || (list.length < 3 && isClass(first));
        return decorates ? undefined : run.ghost(`${name}()`);
      },
      construct(_, list, made) {
        run.note(`new ${name}(${list.map((item) => run.say(item)).join(', ')})`);
        return made === proxy ? run.ghost(`new ${name}`) : Object.create(made.prototype);
      },
      has(_, key) {
        run.note(`has ${name}.${String(key)}`);
        return true;
      },
      deleteProperty(_, key) {
        run.note(`delete ${name}.${String(key)}`);
        known.delete(key);
        return true;
      },
      defineProperty(_, key, what) {
        run.note(`define ${name}.${String(key)} ${run.say(what.value)}`);
        known.set(key, what.value);
        return true;
      },
    });
    this.ghosts.set(proxy, name);
    return proxy;
  }

  /** A value in words that are the same wherever it is the same. */
  say(value, depth = 3, seen = new Set()) {
    if (typeof value === 'string') return JSON.stringify(value.length > 300 ? `${value.slice(0, 300)}… ${value.length}` : value);
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'symbol') return value.toString();
    if (primitive(value)) return Object.is(value, -0) ? '-0' : String(value);
    if (this.ghosts.has(value)) return `<${this.ghosts.get(value)}>`;
    if (seen.has(value)) return 'seen';
    seen.add(value);
    try {
      const kind = Object.prototype.toString.call(value);
      if (kind === '[object Error]') return this.fault(value);
      if (kind === '[object RegExp]' || kind === '[object Date]') return `${kind} ${value}`;
      const name = typeof value === 'function' ? `function ${value.name}/${value.length}` : kind;
      if (depth === 0) return name;
      const own = [];
      for (const key of Reflect.ownKeys(value).slice(0, 100)) {
        if (typeof value === 'function' && ['length', 'name', 'arguments', 'caller', 'prototype'].includes(key)) continue;
        const what = Object.getOwnPropertyDescriptor(value, key);
        const flags = (what.enumerable ? 'e' : '') + (what.writable ? 'w' : '') + (what.configurable ? 'c' : '');
        own.push(`${String(key)}:${flags} ${'value' in what ? this.say(what.value, depth - 1, seen) : `${what.get ? 'get' : ''}${what.set ? 'set' : ''}`}`);
      }
      return `${name} {${own.join(', ')}}`;
    } catch (error) {
      return `can't be looked at: ${this.fault(error)}`;
    }
  }

  /** An exception without what says where it was: the names of variables, and the words of an engine for what a helper
   * says in its own. */
  fault(error) {
    if (primitive(error) || this.ghosts.has(error)) return `throws ${this.say(error)}`;
    const name = String(error?.constructor?.name ?? error?.name);
    const message = String(error?.message);
    if (name === 'TypeError' && /private|#|#?\bbrand|class did not declare|disposable|not extensible|read-only|getter|setter|assign|super/i.test(message)) return 'throws TypeError of a member';
    return `throws ${name}: ${message}`
      .replace(/: .* is not (iterable|a function|a constructor)(.*)/, ': … is not $1')
      .replace(/: (Identifier|Cannot access) '.*'/, ": $1 …");
  }

  settle(what, promise) {
    this.waiting.push(Promise.resolve(promise).then(
      (value) => this.note(`${what} gives ${this.say(value)}`),
      (error) => this.note(`${what} ${this.fault(error)}`),
    ));
  }

  /** Calls, makes or reads it. */
  use(what, value, called = false) {
    if (this.depth > 2 || this.log.length >= MOST) return;
    this.depth += 1;
    try {
      if (typeof value !== 'function') return;
      if (isClass(value)) {
        if (called) return;
        const made = new value(this.ghost('a'), this.ghost('b'), 3);
        this.note(`${what} made ${this.say(made)}`);
        this.members(what, value);
        if (!primitive(made) && !this.ghosts.has(made)) this.members(`${what}.prototype`, value.prototype, made);
        return;
      }
      const given = called ? [[this.ghost('a'), this.ghost('b')]] : [[this.ghost('a'), this.ghost('b'), this.ghost('c')], [3, 2, 'text'], []];
      for (const list of given) {
        try {
          this.result(what, value(...list));
        } catch (error) {
          this.note(`${what} ${this.fault(error)}`);
        }
      }
    } catch (error) {
      this.note(`${what} ${this.fault(error)}`);
    } finally {
      this.depth -= 1;
    }
  }

  result(what, result) {
    this.note(`${what} gives ${this.say(result)}`);
    if (primitive(result) || this.ghosts.has(result)) return;
    if (typeof result.then === 'function') this.settle(what, result);
    else if (typeof result.next === 'function' && Symbol.asyncIterator in result) {
      this.settle(`${what} next`, result.next('first').then((one) => result.next('second').then((two) => [one, two])));
    } else if (typeof result.next === 'function') {
      for (let n = 0; n < 4; n++) this.note(`${what} next ${this.say(result.next(`sent ${n}`))}`);
    } else if (typeof result === 'function') this.use(`${what}()`, result);
  }

  members(what, holder, self = holder) {
    for (const key of Reflect.ownKeys(holder).slice(0, 60)) {
      if (['constructor', 'length', 'name', 'prototype', 'arguments', 'caller'].includes(key)) continue;
      const name = `${what}.${String(key)}`;
      try {
        const value = Reflect.get(holder, key, self);
        this.note(`${name} is ${this.say(value)}`);
        if (typeof value === 'function' && !this.ghosts.has(value)) this.result(name, value.call(self, this.ghost('a'), 2));
        if (Object.getOwnPropertyDescriptor(holder, key)?.set) Reflect.set(holder, key, this.ghost('set'), self);
      } catch (error) {
        this.note(`${name} ${this.fault(error)}`);
      }
    }
  }

  async all(units) {
    this.waiting = [];
    const box = {};
    for (const name of this.globals) {
      const ghost = this.ghost(name);
      Object.defineProperty(box, name, { get: () => (this.note(`global ${name}`), ghost), set: (value) => this.note(`global ${name} = ${this.say(value)}`), configurable: true });
    }
    const seeds = [];
    box.__seen = (things) => seeds.push(things);
    box.console = new Proxy({}, { get: (_, key) => (...list) => this.note(`console.${String(key)}(${list.map((item) => this.say(item)).join(', ')})`) });
    const context = vm.createContext(box);
    vm.runInContext('{ let n = 1; Math.random = () => (n = (n * 48271) % 2147483647) / 2147483647; Date.now = () => n++; }', context);
    const modules = new Map();
    const outside = new Map();
    const find = (specifier) => {
      const bare = specifier.replace(/^\.\//, '').replace(/\.[mc]?[jt]sx?$/, '');
      return [...modules].find(([file]) => specifier.startsWith('.') && file.replace(/\.[mc]?[jt]sx?$/, '') === bare)?.[1];
    };
    const link = (specifier) => {
      const own = find(specifier);
      if (own) return own;
      if (!outside.has(specifier)) {
        const names = ['default', ...(this.imports[specifier] ?? [])];
        const made = new vm.SyntheticModule(names, () => names.forEach((name) => made.setExport(name, this.ghost(`${specifier}:${name}`))), { context });
        outside.set(specifier, made);
      }
      return outside.get(specifier);
    };
    const dynamic = async (specifier) => {
      this.note(`import ${specifier}`);
      const module = link(String(specifier));
      if (module.status === 'unlinked') await module.link(link);
      if (module.status === 'linked') await module.evaluate();
      return module;
    };
    for (const { file, code } of units) {
      modules.set(file, new vm.SourceTextModule(code, {
        context, identifier: file, importModuleDynamically: dynamic, initializeImportMeta: (meta) => (meta.url = 'file:///here'),
      }));
    }
    for (const [, module] of modules) {
      if (module.status === 'unlinked') await module.link(link);
    }
    for (const [file, module] of modules) {
      try {
        await Promise.race([module.evaluate({ timeout: 2000 }), new Promise((_, fail) => setTimeout(() => fail(new Error('waits for ever')), 300))]);
      } catch (error) {
        this.note(`${file} ${this.fault(error)}`);
        if (/waits for ever|timed out/.test(error?.message)) this.hangs = true;
      }
      if (module.status !== 'evaluated' && module.status !== 'errored') continue;
      try {
        seeds.push(Object.fromEntries(Object.keys(module.namespace).sort().map((name) => [`export ${name}`, () => module.namespace[name]])));
      } catch {
        // It never came to its end.
      }
    }
    for (const things of seeds) {
      for (const [name, get] of Object.entries(things)) {
        try {
          const value = get();
          this.note(`${name} is ${this.say(value)}`);
          if (!this.ghosts.has(value)) this.use(name, value);
        } catch (error) {
          this.note(`${name} ${this.fault(error)}`);
        }
      }
    }
    for (let n = 0; n < 3; n++) {
      await Promise.race([Promise.all(this.waiting), new Promise((done) => setTimeout(done, 30))]);
      await new Promise((done) => setImmediate(done));
    }
  }
}

async function once(units, globals, imports) {
  const run = new Run(globals, imports);
  try {
    await run.all(units);
    return { log: run.log, hangs: run.hangs };
  } catch (error) {
    return { log: run.log, broken: `${error?.name}: ${error?.message}` };
  }
}

/** Until no name is missing any more, the same names for both. */
async function both({ ours, theirs }) {
  const globals = new Set();
  const imports = {};
  for (let n = 0; ; n++) {
    const results = [await once(ours, globals, imports), await once(theirs, globals, imports)];
    const text = results.map((result) => `${result.broken ?? ''}\n${result.log.join('\n')}`).join('\n');
    let more = false;
    for (const [, name] of text.matchAll(/ReferenceError: ([\w$\u0080-\uffff]+) is not defined/g)) {
      if (!globals.has(name)) more = Boolean(globals.add(name));
    }
    for (const [, specifier, name] of text.matchAll(/requested module '(.*?)' does not provide an export named '(.*?)'/g)) {
      imports[specifier] ??= [];
      if (!imports[specifier].includes(name)) more = Boolean(imports[specifier].push(name));
    }
    if (!more || n === 40) return { ours: results[0], theirs: results[1] };
  }
}

process.on('unhandledRejection', () => {});
process.on('uncaughtException', () => {});
process.on('message', async ({ id, ...what }) => process.send({ id, ...(await both(what)) }));
