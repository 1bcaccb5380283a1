// node transpile-npm.mjs URL SOURCES: every TypeScript source that the packages in SOURCES ship goes through the house
// and through esbuild. Both results are laid out as the package was, imported file by file, their exports described and
// their functions called; what is found must be the same. Prints the counts as JSON.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';

const [url, sources] = process.argv.slice(2);
const packages = [
  '@noble/curves', '@noble/hashes', '@reduxjs/toolkit', '@tanstack/query-core', 'abitype', 'immer', 'mobx',
  'multiformats', 'redux', 'reselect', 'rxjs', 'uint8arrays', 'zod',
];
// Sources of the packages' own tests, and declarations.
const leftOut = /\.d\.[mc]?ts$|(^|\/)(tests?|__tests__|__mocks__|benchmarks?)\/|\.(test|spec|bench|test-d)\.tsx?$/;
// Functions without a name of their own that a namespace exports: esbuild's keepNames names them, TypeScript and the
// house do not. docs/transpile.md says so.
const withoutNames = (value) => JSON.stringify(value).replaceAll(/function [\w$]*\//g, 'function /');
const target = 'es2022';

async function list(folder) {
  const found = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== 'node_modules') found.push(...(await list(path)));
    else if (/\.tsx?$/.test(entry.name)) found.push(path);
  }
  return found.sort();
}

const out = await mkdtemp(join(tmpdir(), 'guesthouse-npm-'));
await writeFile(join(out, 'package.json'), '{"type":"module"}');
const scripts = dirname(fileURLToPath(import.meta.url));
const refused = [];

async function compile(name, file, path) {
  const code = await readFile(path, 'utf8');
  const loader = path.endsWith('x') ? 'tsx' : 'ts';
  const query = new URLSearchParams({ target, loader, jsxImportSource: 'react' });
  const [answer, theirs] = await Promise.all([
    fetch(`${url}/transpile?${query}`, { method: 'POST', body: code }),
    transform(code, { loader, target, format: 'esm', keepNames: true, charset: 'utf8', jsx: 'automatic', jsxImportSource: 'react' }),
  ]);
  const ours = await answer.text();
  if (answer.status !== 200) {
    refused.push({ file: `${name}/${file}`, status: answer.status, text: ours });
    return false;
  }
  for (const [side, text] of [['ours', ours], ['theirs', theirs.code]]) {
    const place = join(out, side, name, file.replace(/\.tsx?$/, '.js'));
    await mkdir(dirname(place), { recursive: true });
    await writeFile(place, text);
  }
  return true;
}

function run(side, name, files) {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(scripts, 'transpile-npm-run.mjs'), join(out, side), name, sources, ...files], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), 240_000);
    let text = '';
    let errors = '';
    // A piece may end in the middle of a character.
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (piece) => (text += piece));
    child.stderr.on('data', (piece) => (errors += piece));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      try {
        done(JSON.parse(text));
      } catch {
        done({ failed: `${signal ?? code}: ${errors.slice(-2000)}` });
      }
    });
  });
}

const report = { packages: 0, files: 0, equal: 0, loaded: 0, exports: 0, calls: 0, refused, explained: [], differences: [], byPackage: {} };
for (const name of packages) {
  const root = join(sources, 'node_modules', name);
  const base = existsSync(join(root, 'src')) ? join(root, 'src') : root;
  const paths = (await list(base)).filter((path) => !leftOut.test(relative(root, path)));
  const files = [];
  for (let at = 0; at < paths.length; at += 8) {
    const some = paths.slice(at, at + 8).map(async (path) => {
      const file = relative(root, path);
      return (await compile(name, file, path)) ? file.replace(/\.tsx?$/, '.js') : undefined;
    });
    files.push(...(await Promise.all(some)).filter(Boolean));
  }
  const [ours, theirs] = await Promise.all([run('ours', name, files), run('theirs', name, files)]);
  const of = (report.byPackage[name] = { files: paths.length, equal: 0, loaded: 0, exports: 0, calls: 0 });
  if (ours.failed || theirs.failed) {
    report.differences.push({ file: name, ours: ours.failed, expected: theirs.failed });
    continue;
  }
  for (const file of files) {
    const [mine, expected] = [ours[file], theirs[file]];
    if (mine.error === undefined) of.loaded += 1;
    else if (process.env.ERRORS) console.error(`${name}/${file}: ${mine.error}`);
    of.exports += Object.keys(mine.exports ?? {}).length;
    of.calls += mine.calls ?? 0;
    if (JSON.stringify(mine) === JSON.stringify(expected)) {
      of.equal += 1;
      continue;
    }
    if (withoutNames(mine) === withoutNames(expected)) {
      report.explained.push(`${name}/${file}`);
      continue;
    }
    const names = new Set([...Object.keys(mine.exports ?? {}), ...Object.keys(expected.exports ?? {})]);
    const wrong = [...names].find((key) => JSON.stringify(mine.exports?.[key]) !== JSON.stringify(expected.exports?.[key]));
    const cut = (value) => JSON.stringify(value)?.slice(0, 600);
    report.differences.push({
      file: `${name}/${file}`, export: wrong,
      ours: cut(wrong === undefined ? mine.error : mine.exports?.[wrong]),
      expected: cut(wrong === undefined ? expected.error : expected.exports?.[wrong]),
    });
  }
  report.packages += 1;
  for (const key of ['files', 'equal', 'loaded', 'exports', 'calls']) report[key] += of[key];
}
if (!process.env.KEEP) await rm(out, { recursive: true, force: true });
else console.error(out);
console.log(JSON.stringify(report));
