//! What is measured. Each measure is a function of its own; all add to the same [`Results`].

use super::load::{Load, Round, read_answer};
use super::process::{SERVER_CORE, Server};
use super::subjects::{self, House, Tools};
use super::{Effort, native};
use anyhow::{Context, Result, bail};
use guesthouse_tests::{guest, house_folder};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Connections of a closed load.
const CONNECTIONS: usize = 64;
/// KV reads in one request.
const GETS: u32 = 100;
/// Requests that wait in the house while its memory is read.
const HELD: usize = 200;
/// Guests in an endless loop beside the neighbour.
const SPINNING: usize = 8;
/// Requests a second of the neighbour.
const PACE: f64 = 500.0;

/// Everything that came out.
#[derive(Default, Serialize)]
pub struct Results {
    /// Tables of loads.
    pub tables: Vec<Table>,
    /// The measures that have a target.
    pub targets: Vec<Target>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// Rounds of each table.
    pub rounds: usize,
}

/// Servers that answer the same request.
#[derive(Serialize)]
pub struct Table {
    /// What is asked.
    pub title: &'static str,
    /// Who answers; the first is what the others are compared with.
    pub rows: Vec<Row>,
}

/// One server.
#[derive(Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its rounds.
    pub rounds: Vec<Round>,
}

/// A measure with a target.
#[derive(Serialize)]
pub struct Target {
    /// What.
    pub what: String,
    /// What it should be.
    pub target: String,
    /// What it is, with the spread.
    pub measured: String,
    /// Whether that is good enough.
    pub met: bool,
}

impl Row {
    /// The median of one figure over the rounds.
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        spread(self.rounds.iter().map(of)).1
    }
}

/// Smallest, median and largest.
pub fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

impl Results {
    pub fn target(&mut self, what: &str, target: impl Into<String>, measured: String, met: bool) {
        self.targets.push(Target { what: what.to_owned(), target: target.into(), measured, met });
    }

    /// A ratio over the rounds of two rows: CPU time of `base` divided by that of `row`.
    pub fn ratio(&mut self, what: &str, least: f64, table: usize, base: &str, row: &str) {
        self.compare(what, Some(least), (table, base, row), |base, row| base.cpu / row.cpu);
    }

    /// How many times as many answers `row` gave as `base`: where it is not CPU time that decides. Without `least`
    /// there is no target for it.
    pub fn rates(&mut self, what: &str, least: Option<f64>, table: usize, base: &str, row: &str) {
        self.compare(what, least, (table, base, row), |base, row| row.rps / base.rps);
    }

    fn compare(
        &mut self,
        what: &str,
        least: Option<f64>,
        (table, base, row): (usize, &str, &str),
        of: impl Fn(&Round, &Round) -> f64,
    ) {
        let Some(table) = self.tables.get(table) else { return };
        let find = |name: &str| table.rows.iter().find(|row| row.name == name);
        let (Some(base), Some(row)) = (find(base), find(row)) else { return };
        let rounds = base.rounds.iter().zip(&row.rounds).map(|(base, row)| of(base, row));
        let (low, middle, high) = spread(rounds);
        let measured = format!("{middle:.2} ({low:.2}–{high:.2})");
        let target = least.map_or_else(|| "none".to_owned(), |least| format!("≥ {least:.2}"));
        self.target(what, target, measured, least.is_none_or(|least| middle >= least));
    }
}

/// Runs everything whose name contains `only`.
pub fn all(effort: Effort, tools: &Tools, only: &str) -> Result<Results> {
    let mut results = Results { rounds: effort.rounds, ..Results::default() };
    let folder = tempfile::tempdir()?;
    let bench = Bench { effort, tools, folder: &folder };
    type Measure = fn(&Bench<'_>, &mut Results) -> Result<()>;
    let measures: [(&str, Measure); 15] = [
        ("hello", hello),
        ("asset", asset),
        ("kv", kv),
        ("start", start),
        ("memory", memory),
        ("events", super::streams::events),
        ("switch", super::switch::switch),
        ("tokens", super::streams::tokens),
        ("streams", super::streams::many),
        ("transpile", super::transpile::transpile),
        ("neighbour", neighbour),
        ("rooms", super::rooms::rooms),
        ("sockets", super::rooms::sockets),
        ("turn", super::turn::turn),
        ("live", super::live::live),
    ];
    for (name, measure) in measures {
        if name.contains(only) {
            let began = Instant::now();
            eprintln!("— {name}");
            if let Err(error) = measure(&bench, &mut results) {
                // One tool that fails on this machine is no reason to lose the rest.
                results.skipped.push(format!("{name}: {error:#}"));
                eprintln!("  skipped: {error:#}");
            }
            eprintln!("  {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    Ok(results)
}

/// What all measures share.
pub struct Bench<'a> {
    pub effort: Effort,
    pub tools: &'a Tools,
    pub folder: &'a TempDir,
}

impl Bench<'_> {
    /// A house with these plugins, one serving thread and no access log.
    pub fn house(&self, name: &str, plugins: &[(&str, &Path, &str)]) -> Result<House> {
        let mut config = "[server]\nthreads = 1\naccess_log = false\n".to_owned();
        for (plugin, component, rest) in plugins {
            writeln!(
                config,
                "[plugins.{plugin}]\ncomponent = {:?}\nroutes = [\"http://{plugin}/*\"]\n{rest}",
                component.display().to_string()
            )?;
        }
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, config)?;
        House::start(&file, &self.folder.path().join(name))
    }

    /// A closed load.
    pub fn load(&self, address: SocketAddr, host: &str, path: &str) -> Load {
        Load {
            address,
            host: host.to_owned(),
            path: path.to_owned(),
            body: None,
            connections: CONNECTIONS,
            rate: None,
            warm_up: self.effort.warm_up,
            measure: self.effort.measure,
        }
    }

    /// All in turns, as often as there are rounds.
    pub fn table(&self, title: &'static str, subjects: &[(&str, &Server, Load)]) -> Result<Table> {
        let mut rows: Vec<Row> = subjects
            .iter()
            .map(|(name, ..)| Row { name: (*name).to_owned(), rounds: Vec::new() })
            .collect();
        for number in 0..self.effort.rounds {
            eprintln!("  round {} of {}", number + 1, self.effort.rounds);
            for (row, (name, server, load)) in rows.iter_mut().zip(subjects) {
                row.rounds.push(load.run(server).with_context(|| (*name).to_owned())?);
                server.settle();
            }
        }
        Ok(Table { title, rows })
    }
}

/// A tool of others, if it is there and starts.
pub fn other<T>(results: &mut Results, name: &str, start: Option<Result<T>>) -> Option<T> {
    match start {
        Some(Ok(server)) => Some(server),
        Some(Err(error)) => {
            results.skipped.push(format!("{name}: {error:#}"));
            None
        }
        None => {
            results.skipped.push(format!("{name}: not installed, or left out by --with"));
            None
        }
    }
}

pub const NATIVE: &str = "hyper without wasm";
const FRESH: &str = "Guesthouse, 0.2, fresh instance";
const WARM: &str = "Guesthouse, 0.2, warm instance";
const P3: &str = "Guesthouse, 0.3";
const SERVE: &str = "wasmtime serve, 0.2";
const SERVE_WARM: &str = "wasmtime serve, 0.2, reuse 1000";
const SERVE_P3: &str = "wasmtime serve, 0.3";
const WORKERD: &str = "workerd";

fn hello(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let (two, three) = (guest("wit_bindgen"), guest("wasip3"));
    let house = bench.house(
        "hello",
        &[
            ("fresh", &two, ""),
            ("warm", &two, "instances = { reuse = 1000 }"),
            ("three", &three, "instances = { reuse = 128, concurrent = 16 }"),
        ],
    )?;
    let native = subjects::native()?;
    let wasmtime = bench.tools.wasmtime.as_deref();
    let serve = other(
        results,
        "wasmtime serve",
        wasmtime.map(|program| subjects::wasmtime(program, "wit_bindgen", &[])),
    );
    let warm_options = ["--max-instance-reuse-count", "1000"];
    let serve_warm =
        wasmtime.and_then(|p| subjects::wasmtime(p, "wit_bindgen", &warm_options).ok());
    let serve_p3 = wasmtime.and_then(|p| subjects::wasmtime(p, "wasip3", &["-S", "p3"]).ok());
    let workerd = other(
        results,
        WORKERD,
        bench.tools.workerd.as_deref().map(|p| subjects::workerd(p, bench.folder.path())),
    );
    let of = |server: &Server, host: &str| bench.load(server.address, host, "/");
    let mut rows = vec![
        (NATIVE, &native, of(&native, "native")),
        (WARM, &house.server, of(&house.server, "warm")),
        (FRESH, &house.server, of(&house.server, "fresh")),
        (P3, &house.server, of(&house.server, "three")),
    ];
    let others =
        [(SERVE_WARM, &serve_warm), (SERVE, &serve), (SERVE_P3, &serve_p3), (WORKERD, &workerd)];
    for (name, server) in others {
        rows.extend(server.as_ref().map(|server| (name, server, of(server, "localhost"))));
    }
    results.tables.push(bench.table("Hello", &rows)?);
    let table = results.tables.len() - 1;
    results.ratio("hello, 0.2, warm instance, against native hyper", 0.50, table, NATIVE, WARM);
    results.ratio("hello, 0.2, fresh instance, against native hyper", 0.22, table, NATIVE, FRESH);
    results.ratio("hello, 0.3, against native hyper", 0.30, table, NATIVE, P3);
    results.ratio("hello, 0.2, warm, against workerd", 5.0, table, WORKERD, WARM);
    results.ratio("hello, 0.2, fresh, against workerd", 2.0, table, WORKERD, FRESH);
    results.ratio("hello, 0.2, warm, against `wasmtime serve`", 6.0, table, SERVE, WARM);
    results.ratio("hello, 0.2, fresh, against `wasmtime serve`", 2.5, table, SERVE, FRESH);
    Ok(())
}

const CACHED: &str = "Guesthouse, cached";
const UNCACHED: &str = "Guesthouse, through component and KV";
const NGINX: &str = "nginx, from disk";

fn asset(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let assets = house_folder().join("plugins/assets.wasm");
    let rest = "kv = [\"assets\"]\ninstances = { reuse = 1000 }";
    let house = bench.house(
        "assets",
        &[("assets", &assets, &format!("{rest}\ncache = true")), ("uncached", &assets, rest)],
    )?;
    publish(bench, &house)?;
    let native = subjects::native()?;
    let nginx = other(
        results,
        "nginx",
        bench.tools.nginx.as_deref().map(|p| subjects::nginx(p, bench.folder.path())),
    );
    let of = |server: &Server, host: &str| bench.load(server.address, host, "/asset.html");
    let mut rows = vec![
        (NATIVE, &native, of(&native, "native")),
        (CACHED, &house.server, of(&house.server, "assets")),
        (UNCACHED, &house.server, of(&house.server, "uncached")),
    ];
    rows.extend(nginx.as_ref().map(|server| (NGINX, server, of(server, "localhost"))));
    results.tables.push(bench.table("Asset of 10 KB", &rows)?);
    let table = results.tables.len() - 1;
    results.ratio("asset of 10 KB, cached, against hyper from memory", 0.85, table, NATIVE, CACHED);
    results.ratio("asset of 10 KB, cached, against nginx", 1.0, table, NGINX, CACHED);
    results.ratio("asset of 10 KB, uncached, against hyper", 0.30, table, NATIVE, UNCACHED);
    Ok(())
}

fn publish(bench: &Bench<'_>, house: &House) -> Result<()> {
    let site = bench.folder.path().join("site");
    std::fs::create_dir_all(&site)?;
    std::fs::write(site.join("asset.html"), native::asset())?;
    house.run(&["assets", "publish", &site.display().to_string()])?;
    Ok(())
}

fn kv(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let probe = guest("probe");
    let rest = "kv = [\"default\"]\ninstances = { reuse = 1000 }";
    let house = bench.house("kv", &[("probe", &probe, rest)])?;
    get_once(house.server.address, "probe", &format!("/put/default/k?{}", "x".repeat(1024)))?;
    let of =
        |gets: u32| bench.load(house.server.address, "probe", &format!("/gets/default/k?{gets}"));
    let table = bench
        .table("KV", &[("no reads", &house.server, of(0)), ("reads", &house.server, of(GETS))])?;
    let [none, some] = table.rows.as_slice() else { bail!("two rows") };
    let each = none
        .rounds
        .iter()
        .zip(&some.rounds)
        .map(|(none, some)| (some.cpu - none.cpu) / f64::from(GETS));
    let (low, middle, high) = spread(each);
    results.target(
        "KV get of 1 KB inside a component, added to a request",
        "≤ 3 µs",
        format!("{middle:.2} µs ({low:.2}–{high:.2})"),
        middle <= 3.0,
    );
    Ok(())
}

/// One request on a connection of its own.
fn get_once(address: SocketAddr, host: &str, path: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await?;
        read_answer(&mut stream, &mut Vec::new()).await
    })
}

/// The house as it is shipped: its own configuration, with a page in it.
fn start(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let config = house_folder().join("config/guesthouse.toml");
    let data = bench.folder.path().join("shipped");
    {
        let house = House::start(&config, &data)?;
        publish(bench, &house)?;
        // Idle means: what was needed for publishing has been given back or is kept for good.
        std::thread::sleep(Duration::from_secs(2));
    }
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..bench.effort.repeats {
        let began = Instant::now();
        let house = House::open(SERVER_CORE, &config, &data)?;
        while get_once(house.server.address, "localhost", "/asset.html").is_err() {
            if began.elapsed() > Duration::from_secs(60) {
                bail!("the house does not answer");
            }
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        memory.push(house.server.rss() as f64 / 1024.0);
    }
    let (low, middle, high) = spread(times);
    results.target(
        "start of the process with all shipped plugins compiled → first response",
        "≤ 200 ms",
        format!("{middle:.0} ms ({low:.0}–{high:.0})"),
        middle <= 200.0,
    );
    let (low, middle, high) = spread(memory);
    results.target(
        "resident memory, idle, all shipped plugins",
        "≤ 60 MB",
        format!("{middle:.1} MiB ({low:.1}–{high:.1})"),
        middle <= 60e6 / f64::from(1 << 20),
    );
    Ok(())
}

fn memory(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let hello = guest("wit_bindgen");
    let rest = "limits = { concurrency = 500, wall = \"1h\" }";
    let mut each = Vec::new();
    for number in 0..3 {
        let house = bench.house(&format!("memory{number}"), &[("hold", &hello, rest)])?;
        // What the first request brings is not each one's.
        get_once(house.server.address, "hold", "/")?;
        let before = house.server.rss();
        let _held = hold(&house, "hold", "/never", HELD)?;
        each.push(house.server.rss().saturating_sub(before) as f64 / HELD as f64);
    }
    let (low, middle, high) = spread(each);
    results.target(
        "resident memory, each concurrent 0.2 request",
        "≤ 80 KiB",
        format!("{middle:.1} KiB ({low:.1}–{high:.1})"),
        middle <= 80.0,
    );
    Ok(())
}

/// Requests that are at work in the house until the connections are dropped.
fn hold(house: &House, plugin: &str, path: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(house.server.address)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {plugin}\r\n\r\n").as_bytes())?;
        streams.push(stream);
    }
    let began = Instant::now();
    loop {
        let status = house.api(&format!("plugins/{plugin}"))?;
        if status["version"]["running"] == count {
            return Ok(streams);
        }
        if began.elapsed() > Duration::from_secs(30) {
            bail!("{count} requests don't run: {status}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a client of one plugin feels of another that never comes to an end.
fn neighbour(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    // The slow lane is as nice as it is to others in a house that nobody prefers.
    super::process::prefer(0);
    let (hostile, hello) = (guest("hostile"), guest("wit_bindgen"));
    let house = bench.house(
        "neighbour",
        &[
            ("spin", &hostile, "limits = { cpu = \"1h\", wall = \"1h\" }"),
            ("neighbour", &hello, "instances = { reuse = 1000 }"),
        ],
    )?;
    let load = Load {
        connections: 8,
        rate: Some(PACE),
        measure: bench.effort.measure.mul_f64(1.5),
        ..bench.load(house.server.address, "neighbour", "/")
    };
    let mut rows = [
        Row { name: "alone".to_owned(), rounds: Vec::new() },
        Row { name: format!("beside {SPINNING} guests in an endless loop"), rounds: Vec::new() },
    ];
    for _ in 0..bench.effort.rounds {
        rows[0].rounds.push(load.run(&house.server)?);
        let spinning = hold(&house, "spin", "/spin", SPINNING)?;
        rows[1].rounds.push(load.run(&house.server)?);
        drop(spinning);
        std::thread::sleep(Duration::from_millis(300));
    }
    let [alone, beside] = &rows;
    let added =
        alone.rounds.iter().zip(&beside.rounds).map(|(alone, beside)| beside.p99 - alone.p99);
    let (low, middle, high) = spread(added);
    let idle = alone.median(|round| round.p99);
    results.target(
        "neighbour's p99 while 8 requests of another plugin spin without end",
        format!("idle p99 ({idle:.2} ms) + 5 ms"),
        format!("+ {middle:.2} ms ({low:.2}–{high:.2})"),
        middle <= 5.0,
    );
    Ok(())
}
