// node transpile-corpus.mjs URL FOLDER|FILE…: sources that others test their compilers with go through the house and
// through esbuild; both results are run, and must do the same. Outside of the tests that always run, because these
// sources belong to others: docs/transpile.md says where to get them and what was found.
//
// In a Go or JavaScript file of tests, the texts in it are the sources (esbuild's own); any other file is one source, or
// several behind `// @filename:` lines (TypeScript's). Prints the counts as JSON, and what differs with REPORT=file.

import { fork } from 'node:child_process';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { transform } from 'esbuild';

const [url, ...places] = process.argv.slice(2);
const source = /\.[mc]?[jt]sx?$/;

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const withoutNames = (line) => line.replaceAll(/function [^/]*\/\d+/g, 'function');
// Functions and classes as text: how they are printed, and what helpers of names are in them.
const withoutSources = (line) => line.replaceAll(/"[^"]*(?:function|class|=>)(?:[^"\\]|\\.)*"/g, 'source');
const withoutWords = (line) => line.replace(/(throws \w+): .*/, '$1');
const withoutReads = (log) => log.filter((line) => !/^global [^=]*$/.test(line));
const alike = (change) => ({ ours, theirs }) => !ours.broken && !theirs.broken && same(change(ours.log), change(theirs.log));
const said = ({ units }) => units.map(({ code }) => code).join('\n');
const printed = ({ made }, side) => made[side].map(({ code }) => code).join('\n');
// How a difference is called, the first that fits; docs/transpile.md explains each. What fits none is an open question.
const classes = [
  ['names of functions', alike((log) => log.map(withoutNames))],
  ['sources of functions as text', alike((log) => log.map((line) => withoutNames(withoutSources(line))))],
  ['how often a name that is declared nowhere is read', alike((log) => withoutReads(log))],
  ['values of enums that esbuild writes in their place', (one) => /\benum\b/.test(said(one)) && /\/\* [^*]+ \*\//.test(printed(one, 'theirs'))],
  ['`import x = …` that nothing uses', (one) => /\bimport\s+\w+\s*=/.test(said(one)) && printed(one, 'theirs').split('require(').length > printed(one, 'ours').split('require(').length],
  ['order of `import x = …`', (one) => /\bimport\s+\w+\s*=/.test(said(one)) && one.theirs.log.some((line) => /before initialization/.test(line)) !== one.ours.log.some((line) => /before initialization/.test(line))],
  ['properties of an element that are one object', (one) => /<[^>]*\{\s*\.\.\./.test(said(one)) && /createElement|jsxs?\(/.test(printed(one, 'ours'))],
  ['pragmas in comments', (one) => /@jsx/i.test(said(one))],
  ['attributes of an import that esbuild leaves out', (one) => /\bimport\s*\([^]*,\s*\{\s*(?:with|assert)/.test(said(one))],
  ['order of computed names and of what a class extends', ({ options, ...one }) => options.useDefineForClassFields === '0' && /\[/.test(said(one))],
  ['how a lowered call keeps its `this`', (one) => /\?\./.test(said(one)) && /\.bind\(/.test(printed(one, 'ours'))],
  ['functions in blocks, and other sloppy code', (one) => /\bif \(1\)/.test(said(one)) && /function \w+\(/.test(said(one))],
  ['exports of what is not there', (one) => /does not provide an export|is not defined in module/.test(one.ours.broken) || /\bdeclare\b[^]*\bexport default\b/.test(said(one))],
  ['`export =`', (one) => /\bexport\s*=/.test(said(one))],
  ['words of an error', (one) => same(one.ours.log.map(withoutWords), one.theirs.log.map(withoutWords))],
  ['namespaces of types, or that a value shares its name with a type', (one) => /\b(?:namespace|module)\s+\w/.test(said(one))],
];

async function* walk(place) {
  if ((await stat(place)).isFile()) return yield place;
  for (const entry of (await readdir(place, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name !== 'node_modules' && !entry.isSymbolicLink()) yield* walk(join(place, entry.name));
  }
}

/** A Go string, between quotes or backticks, or several with `+` between them: what it says and where it ends. */
function goString(text, at) {
  let said = '';
  for (;;) {
    while (/\s/.test(text[at])) at += 1;
    const found = text[at] === '`' ? /`[^`]*`/y : /"(?:[^"\\\n]|\\.)*"/y;
    found.lastIndex = at;
    const match = found.exec(text);
    if (!match) return undefined;
    const inner = match[0].slice(1, -1);
    const bytes = (hex) => String.fromCharCode(parseInt(hex, 16));
    said += text[at] === '`' ? inner : decode(inner.replace(/\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([0-7]{3})|(.))/gi, (_, x, u, long, octal, one) =>
      x ? bytes(x) : u || long ? encode(String.fromCodePoint(parseInt(u ?? long, 16))) : octal ? String.fromCharCode(parseInt(octal, 8))
        : ({ n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v' })[one] ?? one));
    at = found.lastIndex;
    const more = /\s*\+\s*(?=["`])/y;
    more.lastIndex = at;
    if (!more.exec(text)) return { said, at };
    at = more.lastIndex;
  }
}
// Escapes of Go may be single bytes of UTF-8: everything is taken as bytes first.
const encode = (text) => Buffer.from(text).toString('latin1');
const decode = (text) => (/^[\x00-\xff]*$/.test(text) && /[\x80-\xff]/.test(text) ? Buffer.from(text, 'latin1').toString() : text);

function* ofGo(name, text) {
  // What is said to be an error is no input of a transform.
  for (const match of text.matchAll(/expectPrinted(\w*)\(t, (?:(\d+), |[^"`\n]*?)(?=["`])/g)) {
    const found = goString(text, match.index + match[0].length);
    const [, kind, year] = match;
    if (!found || /JSON|CSS/.test(kind)) continue;
    const options = {};
    if (/Experimental/.test(kind)) options.decorators = 'legacy';
    if (/AssignSemantics/.test(kind)) options.useDefineForClassFields = '0';
    if (/JSX/.test(kind) && !/Automatic/.test(kind)) options.jsx = 'classic';
    if (Number(year) >= 2017 && Number(year) <= 2024) options.target = `es${year}`;
    options.loader = /TSX/.test(kind) ? 'tsx' : /TS/.test(kind) || name.startsWith('ts_') ? 'ts' : /JSX/.test(kind) ? 'jsx' : 'js';
    yield { units: [{ file: `in.${options.loader}`, code: found.said }], options };
  }
  for (const match of text.matchAll(/"(\/[\w./@-]+\.[mc]?[jt]sx?)":\s*(?=["`])/g)) {
    const found = goString(text, match.index + match[0].length);
    if (found) yield { units: [{ file: match[1], code: found.said }], options: {} };
  }
}

function* ofScript(text) {
  for (const match of text.matchAll(/['"]([\w./@-]+\.[mc]?[jt]sx?)['"]:\s*(`(?:[^`\\$]|\\[^]|\$(?!\{))*`)/g)) {
    const code = vm.runInNewContext(match[2]);
    yield { units: [{ file: match[1], code }], options: {} };
  }
}

/** One file of TypeScript's cases: options and names of parts are comments in it. */
function ofCase(path, text) {
  const said = (name) => text.match(new RegExp(`^\\s*//\\s*@${name}\\s*:\\s*(\\S+)`, 'im'))?.[1].toLowerCase();
  const options = {};
  if (said('experimentalDecorators') === 'true') options.decorators = 'legacy';
  if (said('useDefineForClassFields') === 'false') options.useDefineForClassFields = '0';
  if (said('jsx') === 'react' || said('jsx') === 'preserve') options.jsx = 'classic';
  const parts = text.split(/^\s*\/\/\s*@filename\s*:\s*(.*)$/im);
  const units = [{ file: basename(path), code: parts[0] }];
  for (let n = 1; n < parts.length; n += 2) units.push({ file: parts[n].trim().replace(/^\.?\//, ''), code: parts[n + 1] });
  const real = units.filter(({ file, code }) => source.test(file) && !/\.d\.[mc]?ts$/.test(file) && /\S/.test(code.replaceAll(/\/\/.*/g, '')));
  return { units: real, options };
}

async function gather() {
  const cases = new Map();
  for (const place of places) {
    for await (const path of walk(place)) {
      const text = await readFile(path, 'utf8').catch(() => '');
      const name = basename(path);
      const found = name.endsWith('.go') ? ofGo(name, text) : /tests\.js$/.test(name) ? ofScript(text) : source.test(name) && !/\.d\.ts$/.test(name) ? [ofCase(path, text)] : [];
      let number = 0;
      for (const { units, options } of found) {
        number += 1;
        const key = JSON.stringify([units, options]);
        if (units.length && !cases.has(key)) cases.set(key, { name: `${relative(place, path) || name}#${number}`, units, options });
      }
    }
  }
  return [...cases.values()];
}

/** What a file declares is looked at as well, so that more than its exports is compared. */
function withWatch(code) {
  const names = new Set();
  for (const match of code.matchAll(/^(?:export )?(?:default )?(?:async )?(?:abstract )?(?:const )?(?:function\s*\*?|class|var|let|const|enum|namespace|module)\s+([A-Za-z_$][\w$]*)(?!\w*\s*from\b)/gm)) names.add(match[1]);
  for (const reserved of ['enum', 'extends', 'implements', 'default', 'await', 'async', 'of', 'in', 'let', 'static', 'yield', 'function', 'class']) names.delete(reserved);
  if (!names.size || /\bmodule\.exports\b|^\s*export\s*=/m.test(code)) return code;
  return `${code}\n;globalThis.__seen({ ${[...names].map((name) => `"${name}": () => ${name}`).join(', ')} });\n`;
}

const loaderOf = (file) => (/\.[mc]?ts$/.test(file) ? 'ts' : /\.tsx$/.test(file) ? 'tsx' : /\.[mc]?js$/.test(file) ? 'js' : 'jsx');

async function ours(code, options) {
  const query = new URLSearchParams({ jsxImportSource: 'stub', ...options });
  const answer = await fetch(`${url}/transpile?${query}`, { method: 'POST', body: code });
  const text = await answer.text();
  if (answer.status === 200) return { code: text };
  return { status: answer.status, error: answer.status === 422 ? JSON.parse(text).errors[0].message : text };
}

async function theirs(code, { loader, target = 'es2024', jsx, decorators, useDefineForClassFields }) {
  const compilerOptions = {};
  if (useDefineForClassFields === '0') compilerOptions.useDefineForClassFields = false;
  if (decorators === 'legacy') compilerOptions.experimentalDecorators = true;
  try {
    return await transform(code, {
      loader, target, platform: 'browser', keepNames: true, charset: 'utf8', logLevel: 'silent',
      jsx: jsx === 'classic' ? 'transform' : 'automatic', jsxImportSource: 'stub', tsconfigRaw: { compilerOptions },
    });
  } catch (error) {
    return { error: error.errors?.[0]?.text ?? String(error) };
  }
}

const runner = join(dirname(fileURLToPath(import.meta.url)), 'transpile-corpus-run.mjs');
class Child {
  start() {
    this.child = fork(runner, { execArgv: [...process.execArgv, '--experimental-vm-modules', '--no-warnings', '--max-old-space-size=700'], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    this.left = 150;
    this.child.on('message', (message) => this.answer?.(message));
    this.child.on('exit', () => this.answer?.({ hangs: true }));
  }

  async run(what) {
    if (!this.child?.connected || this.left-- === 0) {
      this.stop();
      this.start();
    }
    const result = await new Promise((done) => {
      const timer = setTimeout(() => done({ hangs: true }), 20_000);
      this.answer = (message) => (clearTimeout(timer), done(message));
      this.child.send(what);
    });
    this.answer = undefined;
    if (result.hangs) this.stop();
    return result;
  }

  stop() {
    this.child?.removeAllListeners();
    this.child?.kill('SIGKILL');
    this.child = undefined;
  }
}

const report = { tried: 0, run: 0, same: 0, refused: {}, refusedByBoth: 0, refusedByEsbuild: {}, notRun: {}, differences: {} };
const details = [];
const count = (of, key, name) => {
  of[key] = (of[key] ?? 0) + 1;
  return name;
};

async function look({ name, units, options }, child) {
  report.tried += 1;
  const made = { ours: [], theirs: [] };
  const errors = {};
  for (const { file, code } of units) {
    const all = { loader: loaderOf(file), ...options };
    const watched = withWatch(code);
    const [mine, expected] = await Promise.all([ours(watched, all), theirs(watched, all)]);
    if (mine.error !== undefined) errors.ours ??= mine;
    if (expected.error !== undefined) errors.theirs ??= expected.error;
    made.ours.push({ file, code: mine.code });
    made.theirs.push({ file, code: expected.code });
  }
  const general = (message) => message.replaceAll(/`[^`]*`|"[^"]*"|'[^']*'/g, '…');
  if (errors.ours && errors.ours.status !== 422) {
    count(report.differences, `answer ${errors.ours.status}`);
    return details.push({ name, class: `answer ${errors.ours.status}`, text: errors.ours.error, units, options });
  }
  if (errors.ours && errors.theirs !== undefined) return (report.refusedByBoth += 1);
  if (errors.ours) {
    count(report.refused, general(errors.ours.error));
    return details.push({ name, class: 'refused', text: errors.ours.error, units, options });
  }
  if (errors.theirs !== undefined) return count(report.refusedByEsbuild, general(errors.theirs));
  const result = await child.run(made);
  if (result.hangs || result.ours.hangs || result.theirs.hangs) {
    if (!result.hangs && Boolean(result.ours.hangs) !== Boolean(result.theirs.hangs)) count(report.differences, 'one of them hangs');
    else return count(report.notRun, 'both hang, or wait for ever');
  }
  const { ours: mine, theirs: expected } = result;
  if (mine?.broken && expected?.broken) return count(report.notRun, 'neither is a module that loads');
  report.run += 1;
  if (mine && !mine.broken && !expected.broken && same(mine.log, expected.log)) return (report.same += 1);
  const kind = classes.find(([, fits]) => fits({ units, options, made, ours: mine, theirs: expected }))?.[0] ?? 'open';
  count(report.differences, kind);
  const at = mine.log.findIndex((line, index) => line !== expected.log[index]);
  details.push({
    name, class: kind, options, units, made, broken: [mine.broken, expected.broken],
    first: [mine.log[at === -1 ? mine.log.length : at], expected.log[at === -1 ? mine.log.length : at]], before: mine.log.slice(Math.max(0, at - 3), at),
  });
}

const cases = await gather();
const queue = cases.values();
await Promise.all([0, 1].map(async () => {
  const child = new Child();
  for (const one of queue) {
    try {
      await look(one, child);
    } catch (error) {
      count(report.differences, 'the runner failed');
      details.push({ name: one.name, class: 'the runner failed', text: String(error?.stack), units: one.units, options: one.options });
    }
    if (report.tried % 500 === 0) console.error(`${report.tried} of ${cases.length}`);
  }
  child.stop();
}));
if (process.env.REPORT) await writeFile(process.env.REPORT, JSON.stringify(details, null, 1));
console.log(JSON.stringify(report, null, 2));
process.exit(0);
