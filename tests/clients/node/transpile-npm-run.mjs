// node transpile-npm-run.mjs FOLDER NAME SOURCES FILE…: imports each file of the package in FOLDER/NAME, describes what it
// exports, and calls the functions among it with a few arguments. Prints JSON: file → { error } or { exports, calls }.
// Whatever differs from one run to the next (time, randomness) is made the same first.

import crypto, { webcrypto } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { register, syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, name, sources, ...files] = process.argv.slice(2);
const root = join(folder, name);
register('./transpile-npm-hooks.mjs', import.meta.url, { data: { name, sources: pathToFileURL(sources).href } });

// What the packages' own builds put in its place.
globalThis.__DEV__ = true;
let seed = 1;
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
Math.random = random;
const fill = (list) => {
  new Uint8Array(list.buffer, list.byteOffset, list.byteLength).forEach((_, at, bytes) => (bytes[at] = random() * 256));
  return list;
};
Object.defineProperty(globalThis, 'crypto', { value: { getRandomValues: fill, subtle: globalThis.crypto?.subtle }, configurable: true });
Object.defineProperty(webcrypto, 'getRandomValues', { value: fill });
crypto.randomBytes = (length) => Buffer.from(fill(new Uint8Array(length)));
syncBuiltinESMExports();
let clock = 1_700_000_000_000;
Date.now = () => clock++;
performance.now = () => clock++;
const print = process.stdout.write.bind(process.stdout);
for (const name of ['log', 'warn', 'error', 'info', 'debug', 'trace']) console[name] = () => {};
process.on('unhandledRejection', () => {});
process.on('uncaughtException', () => {});

/** A value in words that are the same wherever it is the same. */
function describe(value, depth, seen = new Set()) {
  if (typeof value === 'string') return value.length > 200 ? `${value.slice(0, 200)}… ${value.length}` : `"${value}"`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'symbol') return value.toString();
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return Object.is(value, -0) ? '-0' : String(value);
  if (seen.has(value)) return 'seen';
  seen.add(value);
  try {
    if (value instanceof Promise) return 'a promise';
    if (value instanceof RegExp || value instanceof Date) return String(value);
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return `${value.constructor.name} ${Array.from(value).slice(0, 64)} ${value.length}`;
    const kind = typeof value === 'function' ? `function ${value.name}/${value.length}` : Object.prototype.toString.call(value);
    if (depth === 0) return kind;
    const inner = (what) => describe(what, depth - 1, seen);
    if (value instanceof Map) return { kind, entries: [...value].slice(0, 50).map(([key, item]) => [inner(key), inner(item)]) };
    if (value instanceof Set) return { kind, items: [...value].slice(0, 50).map(inner) };
    const own = {};
    for (const key of Reflect.ownKeys(value).slice(0, 200)) {
      if (key === 'stack' || (typeof value === 'function' && ['length', 'name', 'arguments', 'caller'].includes(key))) continue;
      const property = Object.getOwnPropertyDescriptor(value, key);
      const flags = (property.enumerable ? 'e' : '') + (property.writable ? 'w' : '') + (property.configurable ? 'c' : '');
      own[String(key)] = 'value' in property ? [flags, inner(property.value)] : [flags, inner(property.get), inner(property.set)];
    }
    const parent = typeof value === 'object' && Object.getPrototypeOf(value);
    return { kind, own, ...(parent && parent !== Object.prototype && parent !== Array.prototype && { of: parent.constructor?.name }) };
  } catch (error) {
    return `can't be looked at: ${error?.constructor?.name}`;
  }
}

/** An exception without what says where it was: paths, the names of variables, and which of several exports that are
 * types and no values was missed first. */
const failure = (error) => (error instanceof Error ? `${error.constructor.name}: ${error.message}` : String(describe(error, 1)))
  .replaceAll(pathToFileURL(root).href, 'ROOT').replaceAll(root, 'ROOT')
  .replace(/: [\w$.]+ is not (iterable|a function|a constructor|defined)/, ': … is not $1')
  .replace(/module '.*' does not provide an export named '.*'/, 'module does not provide an export');
const given = [[], [3, 2], ['text'], [{ a: 1, b: ['x'] }, 'a'], [[3, 1, 2]], [new Uint8Array([1, 2, 3])], [(x) => x], [7n, 5n]];

function call(f) {
  return given.map((list) => {
    const arguments_ = structuredClone(list.filter((item) => typeof item !== 'function')).concat(list.filter((item) => typeof item === 'function'));
    try {
      const result = f(...arguments_);
      if (result instanceof Promise) result.catch(() => {});
      return describe(result, 2);
    } catch (error) {
      return failure(error);
    }
  });
}

const unresolved = ['ERR_MODULE_NOT_FOUND', 'ERR_PACKAGE_IMPORT_NOT_DEFINED', 'ERR_PACKAGE_PATH_NOT_EXPORTED'];
// By lines that begin with one: comments, which esbuild leaves out, have it further in.
const imports = async (file) => {
  const text = await readFile(join(root, file), 'utf8');
  const named = [...text.matchAll(/^(?:import|export)\b[^;'"()=]*["']([^"']+)["']/gm)].map(([, name]) => name);
  return [...new Set(named)].sort().join(', ');
};
const found = {};
for (const file of files) {
  try {
    const module = await import(pathToFileURL(join(root, file)).href);
    const exports = {};
    let calls = 0;
    for (const name of Object.keys(module).sort()) {
      const value = module[name];
      exports[name] = [describe(value, 3)];
      const isClass = typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
      if (typeof value === 'function' && !isClass) {
        exports[name].push(call(value));
        calls += given.length;
      }
    }
    found[file] = { exports, calls };
  } catch (error) {
    // Of several imports that lead nowhere, which one is told first is not always the same: all of them must be.
    found[file] = { error: unresolved.includes(error?.code) ? `${error.code}: ${await imports(file)}` : failure(error) };
  }
}
print(JSON.stringify(found), () => process.exit(0));
