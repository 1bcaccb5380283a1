// node transpile.mjs URL: sources of every construct go through the house and through esbuild; what comes out is
// run, and must do the same. Prints the counts as JSON.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { transform } from 'esbuild';

const [url] = process.argv.slice(2);
// Each sets `export default` to what it found out; `opts` go to both, under the names that each has for them. Where
// esbuild is wrong (it does not find members of a namespace that another block writes to), the result stands behind them.
const cases = {
  'types vanish': `type A = { x: number }; interface B extends A { y: string }
    const b: B = { x: 1, y: 'z' } satisfies B; export default [b!.x, (b as any).y];`,
  'enums': `enum E { A, B = 5, C, D = 'd', F = B * 2, G = 'x'.length } export default [E.A, E[5], E.C, E.D, E.F, E.G, Object.keys(E)];`,
  'const enums across use': `const enum C { One = 1, Two = One + 1, Text = 't' } function f(c: C) { return c === C.Two; }
    export default [f(C.Two), C.Text, C.One | C.Two];`,
  'enums merge': `enum M { A = 1 } enum M { B = A + 1 } export default M;`,
  'namespaces': `namespace N { export const a = 1; export function f() { return a + 1; } export class K { v = a; } export enum E { Z = 9 } }
    export default [N.a, N.f(), new N.K().v, N.E.Z];`,
  'namespaces merge with functions and classes': `function F() { return F.extra; } namespace F { export const extra = 7; }
    class K { static s = 1 } namespace K { export const t = 2 } export default [F(), K.s, K.t];`,
  'nested namespaces': `namespace A.B.C { export const deep = 'd' } namespace A { export const x = B.C.deep + '!' } export default A.x;`,
  'namespaces that go on': `namespace N { export const a = 1; export function f(this: any) { return [this === undefined, a] } export class K { v = a } export enum E { One = 1, Two }
      export namespace Inner { export const deep = 'd' } export const tag = function (this: any, s: TemplateStringsArray) { return [this === undefined, s[0]] }; export import Alias = Inner; }
    const a = 'outer'; const log: any[] = [];
    namespace N { log.push(a, f(), new K().v, E.Two, Inner.deep, { a, E }, tag\`t\`, Alias.deep, typeof K); { const a = 'inner'; log.push(a) }
      class L extends K { get w() { return a + (f?.())[1] } } log.push(new L().w, ((b = a) => b)(), [a, ...[a]], \`\${a}\`, f.name);
      export import Deep = Inner; import Again = Inner.deep; log.push(Deep.deep, Again); export const b = a + 1; function own(a: string) { return a } log.push(own('p')) }
    namespace N { log.push(b, a) } namespace N.Inner { export const more = deep + a; log.push(more) } export default [log, Object.keys(N), N.Inner];`,
  'namespaces that go on, minified': [`namespace N { export const a = 1; export function f() { return a } } namespace N { export const b = f() + a } export default [N.b, Object.keys(N)];`, { minify: true }],
  'exports of a namespace that change': `const log: any[] = []; const source = { p: 1, q: [2, 3], r: { s: undefined } as any, t: 5, u: 6 };
    namespace N { export let x = 1, later: number; export var y = 'y'; export let { p, q: [, q1 = 9], r: { s = p + 10 }, ['t']: t5, ...others } = source; export let [first, ...rest] = [x, y, p];
      log.push(x++, ++x, x, later, y, p, q1, s, t5, others, first, rest); x += 2; [x, y] = [x * 2, 'z']; ({ x, later } = { x: x + 1, later: 7 }); ({ x = 50, ...others } = { z: 1 } as any);
      log.push(x, y, later, others, { x, y }); for (x of [1, 2]); for (y in { k: 1 }); log.push(x, y, typeof x, typeof later); export const grow = () => (x++, x); const inner = (x: number) => { x++; return x }; log.push(inner(1), x);
      export namespace Deep { export let n = x; export function up() { n += 1; return n } } export let call = function (this: any) { return this === undefined }; log.push(call()) }
    N.x = 40; log.push(N.grow(), N.x, N.Deep.up(), N.Deep.n, N.later); namespace N { log.push(x, grow(), Deep.n); Deep.n = 8; export let z = x } namespace N.Deep { log.push(n, up(), x, z) }
    export default [log, Object.keys(N).sort(), N.z];`,
  'exports that another block changes': [`const log: any[] = []; namespace N { export let n = 0, m: any } namespace N { n++; log.push(n); n = 5; [n] = [n + 1]; ({ n, m = n } = { n: n + 1 } as any); log.push(n, m);
      for (n of [8]); n += 1; n &&= n + 1; log.push(n) } export default [log, N.n, N.m];`, {}, [[1, 7, 7, 10], 10, 7]],
  'ambient exports of a namespace': `namespace N { export declare let given: number; export const read = () => given; export const set = (v: number) => { given = v } } N.set(4); export default [N.read(), N.given, Object.keys(N)];`,
  'merged exports of a namespace': `namespace N { export class C { static s = 1 } export function F() { return F.t } export enum E { A = 1 } } namespace N { export namespace C { export const t = s0() } function s0() { return C.s + 1 } export namespace F { export const t = 5 } export namespace E { export const f = E.A } }
    export default [N.C.t, N.F(), N.F.t, N.E.f, N.E[1]];`,
  'decorated classes in a namespace': [`const log: any[] = []; const d = (n: string) => (...a: any[]) => { log.push([n, typeof a[0], a[1]]) };
    namespace N { export let count = 0; @d('c') export class K { @d('s') static s() { return count } @d('m') m() { return K.s() } } } N.count++; namespace N { @d('l') class L extends K {} log.push(new L().m()) } export default [log, N.K.name];`, { decorators: 'legacy' }],
  'namespaces with jsx': `namespace N { export const Tag: any = (p: any) => null; Tag.Part = (p: any) => null; export let Live: any = Tag } namespace N { export const all = [<Tag a="1">x</Tag>, <Tag.Part />, <Live b />] } export default N.all;`,
  'enum values with signs': `enum E { A = +"3", C = -"3", D = ~"3", N = -3, F = 'x', S = \`4\`, T = -S, U = +E.S, V = +("1" + "2"), W = ~(+"6"), X = -(-'7') + 1 } enum O { P = -E.S, Q = -E['F'], R = E.N } export default [E, O];`,
  'enum with a name of its own': `enum E { A = 1, B = A << 3, C = ~B, D = C >>> 1, 'a b' = 5, F = E['a b'], I = Infinity, J = -I, K = 1 / 0 } export default E;`,
  'private checks in checks': `class A { #a = 1; #b = 2; static all(b: any, c: any) { const out: any[] = []; const look = (f: () => any) => { try { out.push(f()) } catch (e: any) { out.push(e.message) } };
      look(() => #a in (#b in c)); look(() => #a in (b < c)); look(() => (#a in b) + 1); look(() => (#a in b) < c); look(() => #a in (b in c)); look(() => (#a in b) << 2); look(() => !(#a in b)); look(() => (#a in b) === (#b in c)); look(() => (#a in b) ** 2);
      look(() => { let n = 0; for (let i = (#a in b) ? 1 : 5; i < 7; i++) n++; return n }); look(() => (#a in b) && (#b in c) || 'no'); return out } } export default A.all(new A(), {});`,
  'private checks in checks, minified': [`class A { #a = 1; #b = 2; static all(b: any, c: any) { const out: any[] = []; try { out.push((#a in b) + 1, (#a in b) * 3, #a in (b < c)) } catch (e: any) { out.push(e.name) } return out } } export default A.all(new A(), {});`, { minify: true }],
  'private checks in checks, lowered': [`class A { #a = 1; #b = 2; static all(b: any, c: any) { return [(#a in b) + 1, (#a in b) < 2, !(#b in c)] } } export default A.all(new A(), {});`, { target: 'es2021' }],
  'super as a statement': `class A { constructor(readonly n: number) {} } class B extends A { f = this.n; constructor(public a: number, private b = a + 1) { const c = b * 2; super(c); this.f += this.a } sum() { return this.a + this.b } } const b = new B(1); export default [b.sum(), b.f, b.n, Object.keys(b)];`,
  'super in an expression': `class A { constructor(readonly n: number) {} } class B extends A { f = 1; constructor(a: number) { const made = super(a), again = () => this.f; if (a > 1) this.f = again() + 1; return made } } export default [new B(1), new B(2)];`,
  'import alias': `namespace N { export const M = { v: 3 } } import v = N.M; export default v.v;`,
  'parameter properties': `class P { constructor(public a: number, private readonly b = 2, protected c?: string) {} sum() { return this.a + this.b; } }
    const p = new P(1); export default [p.sum(), Object.keys(p)];`,
  'parameter properties before fields': `class P { d = this.a + 1; constructor(public a: number) {} } export default [new P(4)];`,
  'fields define': `let log: string[] = []; class A { set x(v: number) { log.push('set') } } class B extends A { x = 1; y?: number; declare z: number }
    const b = new B(); export default [log, Object.keys(b).sort()];`,
  'fields assign': [`let log: string[] = []; class A { set x(v: number) { log.push('set') } } class B extends A { x = 1; y?: number }
    const b = new B(); export default [log, Object.keys(b).sort()];`, { useDefineForClassFields: false }],
  'private members': `class K { #a = 1; static #n = 0; #m() { return this.#a++ } get #g() { return this.#a } static has(o: any) { return #a in o }
    run() { K.#n += 2; return [this.#m(), this.#g, K.#n, (this.#a ||= 5)] } } export default [new K().run(), K.has(new K()), K.has({})];`,
  'private members lowered': [`class K { #a = 1; static #n = 0; #m() { return this.#a++ } get #g() { return this.#a } set #g(v) { this.#a = v } static has(o: any) { return #a in o }
    run() { K.#n += 2; this.#g = this.#g + 1; return [this.#m(), this.#g, K.#n, (this.#a ||= 5)] }
    static bad() { try { K.prototype.run.call({} as any); return 'no' } catch (e) { return (e as Error).constructor.name } } }
    export default [new K().run(), K.has(new K()), K.has({}), K.bad()];`, { target: 'es2020' }],
  'static blocks lowered': [`class K { static a = 1; static b: number; static { this.b = this.a + 1 } } export default [K.a, K.b];`, { target: 'es2021' }],
  'using': `const log: string[] = []; const d = (n: string) => ({ [Symbol.dispose ?? Symbol.for('Symbol.dispose')]() { log.push(n) } });
    function f() { using a = d('a'); using b = d('b'); log.push('body'); return 1 } f();
    try { (() => { using c = d('c'); throw new Error('x') })() } catch (e) { log.push((e as Error).message) } export default log;`,
  'using, suppressed errors': `const bad = { [Symbol.dispose ?? Symbol.for('Symbol.dispose')]() { throw new Error('dispose') } }; let out: any;
    try { (() => { using b = bad as any; throw new Error('body') })() } catch (e: any) { out = [e.name, e.error?.message, e.suppressed?.message] } export default out;`,
  'using null': `let n = 0; { using a = null; using b = undefined; n = 1 } export default n;`,
  'await using': `const log: string[] = []; const d = (n: string) => ({ async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { await 0; log.push(n) } });
    async function f() { await using a = d('a') as any; await using b = d('b') as any; log.push('body') } await f(); export default log;`,
  'await using, thrown by what does not wait': `const log: string[] = []; async function f() { const other = Promise.resolve().then(() => log.push('other'));
      try { await using x = { [Symbol.dispose ?? Symbol.for('Symbol.dispose')]() { log.push('dispose'); throw new Error('d') } } as any } catch (e: any) { log.push(e.message) } await other } await f(); export default log;`,
  'async generators lowered': [`async function* g(n: number) { for (let i = 0; i < n; i++) { const got: any = yield await Promise.resolve(i); if (got) yield got } return 'end' }
    async function* h() { const r = yield* g(2); yield r } async function run() { const out: any[] = []; for await (const x of h()) out.push(x);
    const it = g(3); out.push(await it.next(), await it.next('hi'), await it.return('r' as any), await it.next()); return out } export default run();`, { target: 'es2017' }],
  'for await lowered': [`async function f() { const out = []; for await (const x of [Promise.resolve(1), 2]) out.push(x); return out } export default f();`, { target: 'es2017' }],
  'spread lowered': [`const s = { a: 1, get b() { return 2 } }; const { a, ...rest } = { ...s, c: 3, ...null, ['d' + 1]: 4 }; const k = 'c'; const { [k]: kk, ...others } = rest as any; export default [a, rest, kk, others];`, { target: 'es2017' }],
  'optional chaining and nullish': [`const o: any = { f() { return this.v }, v: 1 }; let n: any = null; n ??= 4; let z = 0; z ||= 3; let t = 1; t &&= 9;
    export default [o?.f?.(), o.x?.y.z, o.g?.(), n, z, t, null ?? 'd', delete o?.v];`, { target: 'es2019' }],
  'exponent and big literals': `export default [2 ** 10, String(10n ** 20n), 1_000];`,
  'legacy decorators': [`const log: any[] = []; const d = (n: string) => (...a: any[]) => { log.push([n, a.length, typeof a[0], a[1], typeof a[2]]) };
    @d('class') class K { @d('field') f = 1; @d('method') m(@d('param') p: number) { return p } @d('static') static s() {} @d('get') get g() { return 1 } } new K();
    export default log;`, { decorators: 'legacy' }],
  'legacy decorators replace': [`const twice = (t: any, k: string, d: PropertyDescriptor) => ({ ...d, value() { return d.value.call(this) * 2 } });
    const named = (c: any): any => class extends c { extra = 'e' }; @named class K { @twice m() { return 21 } } const k: any = new K(); export default [k.m(), k.extra];`, { decorators: 'legacy' }],
  'jsx': `const Foo = (p: any) => null; const xs = { b: 2 }; export default [<div className="a" key="k" data-x={1}>text {1 + 1} &nbsp;&#39;&hearts;<b/></div>,
    <Foo {...xs} key="z" />, <><i>1</i>{'two'}</>, <Foo.Bar a="q&quot;" />, <p>
      lines   here
      join
    </p>];`.replace('const Foo = (p: any) => null;', 'const Foo: any = (p: any) => null; Foo.Bar = Foo;'),
  'jsx, key after spread': `const p: any = { a: 1 }; export default [<div {...p} key="x">c</div>, <div key="x" {...p}>c</div>];`,
  'jsx, namespaced tags': `export default [<svg:rect xlink:href="#a" />];`,
  'jsx classic': [`const h = (...a: any[]) => a; const Frag = 'frag'; export default [<div a="1">x<b>y</b></div>, <>z</>];`, { jsx: 'classic', jsxFactory: 'h', jsxFragment: 'Frag' }],
  'names are kept': `const f = () => 1; class K {} const o = { m() {}, n: function () {} }; const C = class {}; export default [f.name, K.name, o.m.name, o.n.name, C.name];`,
  'names are kept, minified': [`const f = () => 1; class Kept { static make() { return new Kept() } } function named(longParameter: number) { return longParameter * 2 } export default [f.name, Kept.name, named.name, named(4), Kept.make().constructor.name];`, { minify: true }],
  'minified with helpers': [`const log: string[] = []; function f() { using a = { [Symbol.dispose ?? Symbol.for('Symbol.dispose')]() { log.push('d') } } as any; log.push('b') } f(); export default log;`, { minify: true }],
  'overloads and abstract': `abstract class A { abstract m(): number; n(): string; n(x?: number): string { return 'n' + (x ?? '') } } class B extends A { override m() { return 1 } } export default [new B().m(), new B().n(2)];`,
  'type-only imports vanish': `import type { X } from 'nowhere-at-all'; import { type Y } from 'node:os'; import Z from 'also-nowhere'; let z: Z; export default typeof z;`,
  'generics and arrows': `const id = <T,>(x: T): T => x; function g<const T extends readonly unknown[]>(...a: T) { return a.length } export default [id(3), g(1, 2), (<T extends object>(o: T) => o)({ a: 1 })];`,
  'definite and non-null': `class K { x!: number; constructor() { this.x = 1 } } let y!: number; y = 2; export default [new K().x, y!];`,
  'super in async and arrows': `class A { v() { return 1 } } class B extends A { async w() { return (() => super.v() + 1)() } } export default await new B().w();`,
  'labels, getters, tagged templates': `const tag = (s: TemplateStringsArray, ...v: any[]) => [s.raw.join('|'), v]; outer: for (const a of [1, 2]) { for (;;) { continue outer } } export default tag\`a\${1}\\n\${2}b\`;`,
  'unicode': `const größe = 'ü'; const o = { 'ключ': größe, '😀': 1 }; export default [o, größe.length, '\\u{1F600}'];`,
  'accessor': `let n = 0; const key = () => 'k' + n++; class A { accessor x = 1; static accessor s = 2; accessor #p = 3; accessor 'a b' = 4; accessor 5 = 'five';
      accessor [key()] = 6; accessor y: any; bump() { this.#p += this.x; return this.#p } }
    class B extends A { accessor x = 10 } const b = new B(); b.x += 1; b.y = 'y'; A.s++;
    export default [b.bump(), b.x, A.s, b['a b'], b[5], (b as any).k0, n, b.y, Object.keys(b), Object.getOwnPropertyNames(A.prototype), 'x' in b,
      (() => { try { return Reflect.get(A.prototype, 'x', {}) } catch (e) { return (e as Error).constructor.name } })()];`,
  'accessor lowered': [`class A { static #count = 0; accessor x = A.#count++; accessor f = () => this.x; static accessor t = A.#count } abstract class C { abstract accessor z: number }
    class D extends C { override accessor z = 3; private accessor q!: string } const a = new A(); a.x = 5; export default [a.x, a.f(), A.t, new D().z, new A().x];`, { target: 'es2020' }],
  'exceptions': `class MyError extends Error { constructor(public code: number) { super('mine ' + code) } } throw new MyError(4);`,
  'import meta and dynamic import': `const os = await import('node:os'); export default [typeof import.meta.url, typeof os.cpus];`,
  'class expressions and computed keys': `let n = 0; const k = () => 'k' + n++; const C = class { [k()] = n; static [k()]() { return n } }; export default [Object.keys(new C()), (C as any).k1()];`,
  'arguments and default parameters': `function f(a: number, b = a + 1, { c = b }: { c?: number } = {}) { return [a, b, c, arguments.length] } export default f(1);`,
  'accessors in interfaces and index signatures': `interface I { get x(): number; [k: string]: number } class K implements I { [k: string]: any; get x() { return 2 } } export default new K().x;`,
  'assertion functions and unknown catch': `function is(x: unknown): asserts x is string { if (typeof x !== 'string') throw new TypeError('t') } let r; try { is(1) } catch (e: unknown) { r = (e as Error).name } export default r;`,
};
// Where oxc and esbuild differ and neither can be made to agree; docs/transpile.md explains each.
const known = [];

const folder = await mkdtemp(join(tmpdir(), 'guesthouse-transpile-'));
const runtime = join(folder, 'node_modules/stub');
await mkdir(runtime, { recursive: true });
await writeFile(join(runtime, 'package.json'), '{"name":"stub","type":"module","exports":{"./jsx-runtime":"./jsx.js",".":"./jsx.js"}}');
await writeFile(join(runtime, 'jsx.js'), `const make = (kind) => (type, props, key) => ({ type: typeof type === 'function' ? 'f' : String(type), props, key });
export const jsx = make(); export const jsxs = make(); export const Fragment = 'Fragment';
export const createElement = (type, { key, ...props }, ...children) => ({ type: String(type), props: { ...props, children: children.length === 1 ? children[0] : children }, key });\n`);

const seen = (value) => JSON.stringify(value, (_, v) => (typeof v === 'function' ? `function ${v.name}` : typeof v === 'bigint' ? `${v}n` : v === undefined ? '(undefined)' : v));
let number = 0;
async function run(code) {
  const file = join(folder, `m${number++}.mjs`);
  await writeFile(file, code);
  try {
    // What can't wait at the top, below ES2022, exports a promise.
    return seen(await (await import(pathToFileURL(file).href)).default);
  } catch (error) {
    return `throws ${error?.constructor?.name}: ${error?.message} ${seen({ ...error })}`;
  }
}

const differences = [];
const explained = [];
let equal = 0;
for (const [name, given] of Object.entries(cases)) {
  const [code, opts, right] = Array.isArray(given) ? given : [given, {}];
  const mine = opts;
  const query = new URLSearchParams({ jsxImportSource: 'stub', ...mine });
  const answer = await fetch(`${url}/transpile?${query}`, { method: 'POST', body: code });
  const text = await answer.text();
  if (answer.status !== 200) {
    differences.push({ name, status: answer.status, text });
    continue;
  }
  const tsconfigRaw = { compilerOptions: {} };
  if (mine.useDefineForClassFields === false) tsconfigRaw.compilerOptions.useDefineForClassFields = false;
  if (mine.decorators === 'legacy') tsconfigRaw.compilerOptions.experimentalDecorators = true;
  const theirs = await transform(code, {
    loader: 'tsx', format: 'esm', platform: 'browser', keepNames: true, charset: 'utf8',
    target: mine.target === undefined ? 'es2024' : mine.target.replace('es2017', 'es2022').replace(/es20(19|20|21)/, 'es2022'),
    jsx: mine.jsx === 'classic' ? 'transform' : 'automatic', jsxImportSource: 'stub',
    jsxFactory: mine.jsxFactory, jsxFragment: mine.jsxFragment, minify: mine.minify ?? false, tsconfigRaw,
  });
  const [ours, expected] = [await run(text), right === undefined ? await run(theirs.code) : seen(right)];
  if (ours === expected) equal += 1;
  else if (known.includes(name)) explained.push(name);
  else differences.push({ name, ours, expected, text });
}
await rm(folder, { recursive: true, force: true });
console.log(JSON.stringify({ tried: Object.keys(cases).length, equal, explained, differences }));
