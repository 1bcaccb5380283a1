//! `POST /transpile` against esbuild behind a server, and against the same pipeline without wasm.
//!
//! A process of esbuild is a child of its server: CPU time counts both. Results are not kept anywhere: each request
//! transpiles.

use super::measures::{Bench, Results};
use super::process::Server;
use super::subjects;
use anyhow::{Context, Result};
use guesthouse_tests::house_folder;
use std::fmt::Write as _;
use std::time::Duration;

const PLUGIN: &str = "Guesthouse";
const NATIVE: &str = "the same without wasm, behind hyper";
const ESBUILD: &str = "esbuild behind Node.js";
const ESBUILD_WASM: &str = "esbuild-wasm behind Node.js";

/// Connections: so many that a server is never without work, and few enough that latencies say something.
const CONNECTIONS: usize = 4;

/// A component as people write them, of about 2 KB.
fn small() -> String {
    let mut text = String::from(
        "import { useMemo, useState, type ReactNode } from 'react';\n\
         interface Item { id: number; title: string; done?: boolean; children?: readonly Item[] }\n\
         type Props = { items: readonly Item[]; onToggle(id: number): void; footer?: ReactNode };\n\
         enum Filter { All = 'all', Open = 'open', Done = 'done' }\n\
         const label: Record<Filter, string> = { [Filter.All]: 'All', [Filter.Open]: 'Open', [Filter.Done]: 'Done' };\n\
         function matches(item: Item, filter: Filter, text: string): boolean {\n\
           const wanted = filter === Filter.All || (filter === Filter.Done) === (item.done ?? false);\n\
           return wanted && item.title.toLowerCase().includes(text.trim().toLowerCase());\n\
         }\n\
         export default function List({ items, onToggle, footer }: Props) {\n\
           const [filter, setFilter] = useState<Filter>(Filter.All);\n\
           const [text, setText] = useState('');\n\
           const shown = useMemo(() => items.filter((item) => matches(item, filter, text)), [items, filter, text]);\n",
    );
    text += "  return (<section css={{ padding: 8, '& > ul': { margin: 0, listStyle: 'none' } }}>\n\
             <input value={text} onChange={(event) => setText(event.target.value as string)} placeholder=\"Find\" />\n\
             <nav>{Object.values(Filter).map((each) => (<button key={each} disabled={each === filter}\n\
               onClick={() => setFilter(each)}>{label[each]}</button>))}</nav>\n\
             <ul>{shown.map((item, index) => (<li key={item.id} data-index={index}>\n\
               <label><input type=\"checkbox\" checked={item.done ?? false} onChange={() => onToggle(item.id)} />\n\
                 <span style={{ textDecoration: item.done ? 'line-through' : undefined }}>{item.title}</span></label>\n\
               {item.children?.length ? <List items={item.children} onToggle={onToggle} /> : null}\n\
             </li>))}</ul>\n\
             {footer !== undefined && <footer>{footer}</footer>}\n\
           </section>);\n}\n";
    text
}

/// Classes, generics and helpers over and over, about 300 KB of TypeScript.
fn large() -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= 300_000 {
            break;
        }
        _ = write!(
            text,
            "export interface Shape{number}<T extends object = {{}}> {{ readonly kind: 'a{number}'; value: T; next?: Shape{number}<T> }}\n\
             export enum Mode{number} {{ Off, On = 5, Auto = On << 2 }}\n\
             export abstract class Store{number}<K extends string, V> implements Iterable<[K, V]> {{\n\
               #items = new Map<K, V>();\n  static readonly limit: number = {number};\n\
               constructor(private readonly name: string, protected mode: Mode{number} = Mode{number}.On) {{}}\n\
               abstract load(key: K): Promise<V | undefined>;\n\
               async get(key: K, fallback?: V): Promise<V | undefined> {{\n\
                 const found = this.#items.get(key) ?? (await this.load(key)) ?? fallback;\n\
                 if (found !== undefined && this.#items.size < Store{number}.limit) this.#items.set(key, found as V);\n\
                 return found;\n  }}\n\
               *[Symbol.iterator](): IterableIterator<[K, V]> {{ for (const entry of this.#items) yield entry; }}\n\
               describe = (): string => `${{this.name}} has ${{this.#items.size}} of ${{Store{number}.limit}} in ${{Mode{number}[this.mode]}}`;\n\
             }}\n\
             export function fold{number}<T, R>(list: readonly T[], start: R, step: (sum: R, item: T, at: number) => R): R {{\n\
               let sum = start; for (let at = 0; at < list.length; at++) sum = step(sum, list[at]!, at); return sum satisfies R;\n}}\n"
        );
    }
    text
}

/// Both sizes, all servers in turns.
pub fn transpile(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let component = house_folder().join("plugins/transpile.wasm");
    // It asks for a store, and is told not to keep results in it.
    let rest = "kv = [\"transpile\"]\nconfig = { cache = \"\" }\ninstances = { reuse = 1000 }\n\
                limits = { concurrency = 64 }";
    let house = bench.house("transpile", &[("transpile", &component, rest)])?;
    let others = Others::start(bench, results);
    for (title, source, loader, ours) in [
        ("Transpile 2 KB of TSX", small(), "tsx", true),
        ("Transpile 300 KB of TypeScript", large(), "ts", false),
    ] {
        let path = format!("/transpile?loader={loader}");
        let load = |server: &Server| super::load::Load {
            connections: CONNECTIONS,
            body: Some(source.clone().into()),
            warm_up: bench.effort.warm_up.max(Duration::from_secs(1)),
            ..bench.load(server.address, "transpile", &path)
        };
        let mut rows = vec![(PLUGIN, &house.server, load(&house.server))];
        rows.extend(others.rows().map(|(name, server)| (name, server, load(server))));
        results.tables.push(bench.table(title, &rows)?);
        let table = results.tables.len() - 1;
        for (other, least) in [
            (ESBUILD, ours.then_some(1.0)),
            (ESBUILD_WASM, ours.then_some(10.0)),
            (NATIVE, Some(0.5)),
        ] {
            let what = format!("{title}: requests/s against {other}");
            results.rates(&what, least, table, other, PLUGIN);
        }
    }
    Ok(())
}

/// The servers to compare with, where they are installed.
#[derive(Default)]
struct Others {
    native: Option<Server>,
    esbuild: Option<Server>,
    esbuild_wasm: Option<Server>,
}

impl Others {
    fn start(bench: &Bench<'_>, results: &mut Results) -> Self {
        let mut get = |name: &str, started: Result<Server>| {
            started.map_err(|error| results.skipped.push(format!("{name}: {error:#}"))).ok()
        };
        let missing = "not installed, or left out by --with";
        let native = bench.tools.transpile.as_deref().context(missing);
        let packages = || bench.tools.esbuild.as_deref().context(missing);
        Self {
            native: get(NATIVE, native.and_then(subjects::transpile_native)),
            esbuild: get(ESBUILD, packages().and_then(|at| subjects::esbuild(at, "esbuild"))),
            esbuild_wasm: get(
                ESBUILD_WASM,
                packages().and_then(|at| subjects::esbuild(at, "esbuild-wasm")),
            ),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, &Server)> {
        let all =
            [(NATIVE, &self.native), (ESBUILD, &self.esbuild), (ESBUILD_WASM, &self.esbuild_wasm)];
        all.into_iter().filter_map(|(name, server)| Some((name, server.as_ref()?)))
    }
}
