//! Five hundred editors of one document, against y-websocket's own server.
//!
//! Each editor writes a line and deletes the one that it wrote before, so the document stays as large as it is. The
//! clients speak the bytes of Yjs and do not keep the document: on one core, five hundred copies of it could not. What
//! a line says is when it was sent, and everyone who reads it looks at the clock.

use super::load::Round;
use super::measures::{Bench, Results, Row, Table, other};
use super::process::Server;
use super::subjects::House;
use anyhow::{Context, Result, bail};
use guesthouse_tests::house_folder;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::LocalSet;

const HOUSE: &str = "Guesthouse";
const OTHER: &str = "y-websocket's server, which keeps nothing on disk";
const EDITORS: usize = 500;
/// Microseconds that share one count.
const STEP: u64 = 50;
/// Counts: what takes longer than this many steps is counted as so long.
const STEPS: usize = 1_200_000;
/// What a line begins with; the time follows.
const MARK: &[u8] = b"//";
/// Digits of the time in nanoseconds.
const DIGITS: usize = 19;

struct Measure {
    title: &'static str,
    /// Edits of one editor in a second.
    rate: u32,
}

const MEASURES: [Measure; 2] = [
    Measure { title: "500 editors of one document, 1 edit a second each", rate: 1 },
    Measure { title: "500 editors of one document, 5 edits a second each", rate: 5 },
];

pub fn live(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for measure in &MEASURES {
        eprintln!("  {}", measure.title);
        let mut rows = Vec::new();
        let house = house(bench, measure.rate)?;
        let mut subjects = vec![(HOUSE, &house.server)];
        let theirs = other(results, OTHER, bench.tools.y_websocket.as_deref().map(y_websocket));
        subjects.extend(theirs.as_ref().map(|server| (OTHER, server)));
        for (name, server) in subjects {
            let path = if name == HOUSE { "/live/bench/yjs" } else { "/bench" };
            let local = LocalSet::new();
            let ran = local.block_on(&runtime, measure.run(bench, server, path));
            let (round, told) = ran.with_context(|| name.to_owned())?;
            results.target(
                &format!("{}: {name}", measure.title),
                "p99 of edit to delivery and flat memory",
                told.text(&round),
                told.is_whole() && round.p99 <= 250.0,
            );
            rows.push(Row { name: name.to_owned(), rounds: vec![round] });
        }
        results.tables.push(Table { title: measure.title, rows });
    }
    Ok(())
}

/// What a table does not say.
struct Told {
    wanted: f64,
    found: f64,
    closed: usize,
    /// Resident memory in MiB: after a third of the time, and in the end.
    memory: (f64, f64),
}

impl Told {
    /// Whether everything arrived that should have.
    fn is_whole(&self) -> bool {
        self.closed == 0 && self.found >= 0.97 * self.wanted
    }

    fn text(&self, round: &Round) -> String {
        format!(
            "p99 {:.0} ms; {:.0} of {:.0} deliveries a second; {} of {EDITORS} connections closed; {:.0} MiB, then {:.0} MiB",
            round.p99, self.found, self.wanted, self.closed, self.memory.0, self.memory.1
        )
    }
}

#[derive(Default)]
struct Tally {
    counting: Cell<bool>,
    stop: Cell<bool>,
    closed: Cell<usize>,
    done: Cell<u64>,
    steps: RefCell<Vec<u32>>,
}

impl Tally {
    /// A message of the server.
    fn heard(&self, message: &[u8], now: u64) {
        if !self.counting.get() {
            return;
        }
        let Some(at) = message.windows(MARK.len()).position(|bytes| bytes == MARK) else { return };
        let digits = message.get(at + MARK.len()..at + MARK.len() + DIGITS).unwrap_or_default();
        let sent = digits.iter().fold(0_u64, |number, digit| {
            number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')))
        });
        let step = (now.saturating_sub(sent) / 1000 / STEP) as usize;
        if let Some(count) = self.steps.borrow_mut().get_mut(step.min(STEPS - 1)) {
            *count += 1;
        }
        self.done.set(self.done.get() + 1);
    }

    /// Milliseconds within which this part of the messages arrived.
    fn part(&self, part: f64) -> f64 {
        let wanted = (self.done.get() as f64 * part) as u64;
        let mut seen = 0;
        for (step, count) in self.steps.borrow().iter().enumerate() {
            seen += u64::from(*count);
            if seen > wanted {
                return (step as u64 * STEP) as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}

fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

impl Measure {
    async fn run(&self, bench: &Bench<'_>, server: &Server, path: &str) -> Result<(Round, Told)> {
        let tally = Rc::new(Tally::default());
        tally.steps.borrow_mut().resize(STEPS, 0);
        let mut editors = Vec::new();
        for number in 0..EDITORS {
            let (reads, writes, rest) = open(server.address, path).await?;
            tokio::task::spawn_local(read(reads, rest, tally.clone()));
            editors.push(Editor::new(number, writes));
        }
        let edits = tokio::task::spawn_local(edit(editors, self.rate, tally.clone()));
        // As long as the rounds of another table would be together, and at most half a minute.
        let takes = (bench.effort.measure * 4 * u32::try_from(bench.effort.rounds)?)
            .min(Duration::from_secs(25));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (began, cpu) = (Instant::now(), server.cpu());
        tally.counting.set(true);
        tokio::time::sleep(takes / 3).await;
        let first = server.rss();
        tokio::time::sleep(takes - takes / 3).await;
        tally.counting.set(false);
        let (took, cpu) = (began.elapsed().as_secs_f64(), server.cpu() - cpu);
        let last = server.rss();
        tally.stop.set(true);
        edits.await??;
        let done = tally.done.get().max(1) as f64;
        let wanted = f64::from(self.rate) * EDITORS as f64 * (EDITORS - 1) as f64;
        let told = Told {
            // y-websocket's server sends an edit back to whom it came from.
            wanted,
            found: done / took,
            closed: tally.closed.get(),
            memory: (first as f64 / 1024.0, last as f64 / 1024.0),
        };
        let round = Round {
            rps: done / took,
            cpu: cpu * 1e6 / done,
            p50: tally.part(0.5),
            p99: tally.part(0.99),
        };
        Ok((round, told))
    }
}

/// Who writes.
struct Editor {
    writes: OwnedWriteHalf,
    client: u64,
    clock: u64,
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

impl Editor {
    fn new(number: usize, writes: OwnedWriteHalf) -> Self {
        Self { writes, client: 1_000_000 + number as u64, clock: 0 }
    }

    /// A frame with the next update: a line behind the last, which is deleted.
    fn next(&mut self) -> Vec<u8> {
        let line = format!("//{:019}\n", now());
        let length = line.len() as u64;
        let mut update = vec![1, 1];
        put_number(&mut update, self.client);
        put_number(&mut update, self.clock);
        if self.clock == 0 {
            // A text in the root `code`.
            update.extend([4, 1, 4]);
            update.extend(b"code");
        } else {
            // A text behind what this client wrote last.
            update.push(0x84);
            put_number(&mut update, self.client);
            put_number(&mut update, self.clock - 1);
        }
        put_number(&mut update, length);
        update.extend(line.as_bytes());
        if self.clock == 0 {
            update.push(0);
        } else {
            update.push(1);
            put_number(&mut update, self.client);
            update.push(1);
            put_number(&mut update, self.clock - length);
            put_number(&mut update, length);
        }
        self.clock += length;
        let mut message = vec![0, 2];
        put_number(&mut message, update.len() as u64);
        message.extend(update);
        // A binary frame, masked with zeros.
        let mut frame = vec![0x82, 0x80 | message.len() as u8, 0, 0, 0, 0];
        frame.extend(message);
        frame
    }
}

/// Lets all write in turns, evenly over each second, whatever the server does.
async fn edit(mut editors: Vec<Editor>, rate: u32, tally: Rc<Tally>) -> Result<()> {
    let each = Duration::from_secs(1) / rate / u32::try_from(editors.len())?;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (began, mut written) = (Instant::now(), 0_u32);
    while !tally.stop.get() {
        ticks.tick().await;
        while each * written < began.elapsed() {
            let place = written as usize % editors.len();
            let editor = editors.get_mut(place).context("no editor")?;
            let frame = editor.next();
            if frame.get(1).is_some_and(|length| length & 0x7F > 125) {
                bail!("the frame is too long for its header");
            }
            // Who was closed is counted by who reads.
            _ = editor.writes.write_all(&frame).await;
            written += 1;
        }
    }
    Ok(())
}

async fn open(address: SocketAddr, path: &str) -> Result<(OwnedReadHalf, OwnedWriteHalf, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let end = loop {
        if stream.read_buf(&mut head).await? == 0 {
            bail!("{path}: {}", String::from_utf8_lossy(&head));
        }
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if !head.starts_with(b"HTTP/1.1 101") {
        bail!("{path}: {}", String::from_utf8_lossy(&head));
    }
    let rest = head.split_off(end);
    let (reads, writes) = stream.into_split();
    Ok((reads, writes, rest))
}

/// Reads frames as long as they come. None is copied.
async fn read(mut reads: OwnedReadHalf, mut kept: Vec<u8>, tally: Rc<Tally>) {
    kept.reserve(64 << 10);
    loop {
        let (mut at, now) = (0, now());
        while let Some((message, length)) = kept.get(at..).and_then(frame) {
            tally.heard(message, now);
            at += length;
        }
        kept.drain(..at);
        match reads.read_buf(&mut kept).await {
            Ok(bytes) if bytes > 0 => {}
            _ => break,
        }
    }
    if !tally.stop.get() {
        tally.closed.set(tally.closed.get() + 1);
    }
}

/// The first frame, and how long it is.
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (head, length) = match *bytes.get(1)? & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    Some((bytes.get(head..head + length)?, head + length))
}

fn house(bench: &Bench<'_>, rate: u32) -> Result<House> {
    let plugins = house_folder().join("plugins");
    let config = format!(
        "[server]\nthreads = 1\naccess_log = false\n\
         [plugins.live]\ncomponent = {:?}\nroutes = [\"/mcp\", \"/api/room\"]\npeers = [\"live\"]\n\
         calls = [\"transpile\"]\nrooms = {{ routes = [\"/live/{{room}}/*\"], message = \"2MiB\" }}\n\
         [plugins.transpile]\ncomponent = {:?}\nkv = [\"default\"]\ninstances = {{ reuse = 1000 }}\n",
        plugins.join("live.wasm").display().to_string(),
        plugins.join("transpile.wasm").display().to_string(),
    );
    let name = format!("live-{rate}");
    let file = bench.folder.path().join(format!("{name}.toml"));
    std::fs::write(&file, config)?;
    House::start(&file, &bench.folder.path().join(name))
}

/// The server that its authors ship.
fn y_websocket(packages: &Path) -> Result<Server> {
    let port = guesthouse_tests::port();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let mut command = Command::new("node");
    command
        .arg(packages.join("node_modules/y-websocket/bin/server.js"))
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Server::start(command, address)
}
