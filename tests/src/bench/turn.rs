//! The relay against coturn, and what a flood of strangers is to everybody else.
//!
//! Clients send through channels to a peer that sends everything back, and each answer brings the next packet: so
//! many are under way at any time. Two packets are relayed for each round trip.

use super::load::{Load, Round};
use super::measures::{Bench, Results, Row, Table, other, spread};
use super::process::Server;
use super::subjects::House;
use anyhow::{Context, Result, bail};
use guesthouse_tests::guest;
use guesthouse_tests::relay::{Client, challenge, credential};
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

const COTURN: &str = "coturn";
const HOUSE: &str = "Guesthouse";
/// Clients, each with an allocation.
const CLIENTS: usize = 32;
/// Packets of a client that are under way.
const WINDOW: usize = 4;
/// Bytes of a packet, as video has them.
const BYTES: usize = 1000;
/// The channel of every client.
const CHANNEL: u16 = 0x4000;
/// After so long without an answer, what was under way is taken for lost.
const LOST: Duration = Duration::from_millis(100);
/// Packets of strangers in a second.
const FLOOD: u32 = 100_000;

/// A relay of this comparison.
struct Subject {
    name: &'static str,
    server: Server,
    relay: SocketAddr,
    secret: String,
}

pub fn turn(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let (house, relay, secret) = house(bench)?;
    flood(bench, results, &house, relay)?;
    let mut subjects = Vec::new();
    let started = bench.tools.coturn.as_deref().map(|program| coturn(program, bench.folder.path()));
    subjects.extend(other(results, COTURN, started));
    subjects.push(Subject { name: HOUSE, server: house.server, relay, secret });
    let table = results.tables.len();
    results.tables.push(relayed(bench, &subjects)?);
    results.ratio("packets relayed over UDP, against coturn", 0.8, table, COTURN, HOUSE);
    results.rates("the same, packets a second", Some(0.8), table, COTURN, HOUSE);
    Ok(())
}

/// A house with a relay on one thread, and a plugin beside it.
fn house(bench: &Bench<'_>) -> Result<(House, SocketAddr, String)> {
    let config = format!(
        "[server]\nthreads = 1\naccess_log = false\n[turn]\nlisten = [\"udp://127.0.0.1:0\"]\n\
         allow_private_peers = true\nbandwidth = 0\nuser_bandwidth = 0\ntotal_bandwidth = 0\n\
         user_allocations = 1000\n[plugins.hello]\ncomponent = {:?}\nroutes = [\"http://hello/*\"]\n\
         instances = {{ reuse = 1000 }}\n",
        guest("wit_bindgen").display().to_string()
    );
    let (file, data) = (bench.folder.path().join("turn.toml"), bench.folder.path().join("turn"));
    std::fs::write(&file, config)?;
    let house = House::start(&file, &data)?;
    let shown = house.api("turn")?;
    let listener = shown["listeners"][0].as_str().and_then(|text| text.strip_prefix("udp://"));
    let relay = listener.with_context(|| format!("no listener: {shown}"))?.parse()?;
    let secret = std::fs::read_to_string(data.join("turn-secret"))?;
    Ok((house, relay, secret.trim().to_owned()))
}

/// coturn with one thread that relays.
fn coturn(program: &Path, folder: &Path) -> Result<Subject> {
    let relay: SocketAddr = (Ipv4Addr::LOCALHOST, guesthouse_tests::port()).into();
    let secret = "a secret of the bench".to_owned();
    let mut command = Command::new(program);
    command
        .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--relay-threads=1"])
        .args(["--realm=bench", "--use-auth-secret", "--allow-loopback-peers", "--no-cli"])
        .args(["--no-tls", "--no-dtls", "--log-file=/dev/null", "--no-stdout-log"])
        .arg(format!("--listening-port={}", relay.port()))
        .arg(format!("--static-auth-secret={secret}"))
        .arg(format!("--pidfile={}", folder.join("turnserver.pid").display()))
        .arg(format!("--userdb={}", folder.join("turndb").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Subject { name: COTURN, server: Server::start(command, relay)?, relay, secret })
}

fn relayed(bench: &Bench<'_>, subjects: &[Subject]) -> Result<Table> {
    let mut rows: Vec<Row> = subjects
        .iter()
        .map(|subject| Row { name: subject.name.to_owned(), rounds: Vec::new() })
        .collect();
    for number in 0..bench.effort.rounds {
        eprintln!("  round {} of {}", number + 1, bench.effort.rounds);
        for (row, subject) in rows.iter_mut().zip(subjects) {
            row.rounds.push(round(bench, subject).with_context(|| subject.name.to_owned())?);
        }
    }
    Ok(Table { title: "Relayed packets of 1,000 bytes", rows })
}

#[derive(Default)]
struct Tally {
    counting: Cell<bool>,
    stop: Cell<bool>,
    done: Cell<u64>,
    lost: Cell<u64>,
    /// In microseconds.
    latencies: RefCell<Vec<u32>>,
}

fn round(bench: &Bench<'_>, subject: &Subject) -> Result<Round> {
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    let address = peer.local_addr()?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let user = format!("client{number}");
        let client = Client::new(subject.relay, credential(&subject.secret, &user));
        if let Err(code) = client.allocate(true) {
            bail!("an allocation was refused with {code}");
        }
        let code = client.bind(CHANNEL, address);
        if code != 0 {
            bail!("a channel was refused with {code}");
        }
        clients.push(client);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let round = LocalSet::new().block_on(&runtime, async {
        let tally = Rc::new(Tally::default());
        let echo = tokio::task::spawn_local(echo(peer));
        let tasks: Vec<_> = clients
            .iter()
            .map(|client| tokio::task::spawn_local(talk(client.socket(), tally.clone())))
            .collect();
        tokio::time::sleep(bench.effort.warm_up).await;
        let (began, cpu) = (Instant::now(), subject.server.cpu());
        tally.counting.set(true);
        tokio::time::sleep(bench.effort.measure).await;
        tally.counting.set(false);
        let (took, cpu) = (began.elapsed().as_secs_f64(), subject.server.cpu() - cpu);
        tally.stop.set(true);
        for task in tasks {
            task.await??;
        }
        echo.abort();
        let (done, lost) = (tally.done.get(), tally.lost.get());
        if lost * 100 > done {
            bail!("{lost} of {done} packets were lost");
        }
        let mut latencies = tally.latencies.borrow_mut();
        latencies.sort_unstable();
        let at = |part: f64| {
            let place = (latencies.len() as f64 * part) as usize;
            latencies.get(place).copied().map_or(f64::NAN, |us| f64::from(us) / 1e3)
        };
        let packets = (2 * done).max(1) as f64;
        Ok(Round { rps: packets / took, cpu: cpu * 1e6 / packets, p50: at(0.5), p99: at(0.99) })
    });
    for client in clients {
        client.end();
    }
    round
}

/// Sends back whatever comes.
async fn echo(socket: UdpSocket) -> Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..length], from).await?;
    }
}

/// One client: as many packets under way as the window has.
async fn talk(socket: UdpSocket, tally: Rc<Tally>) -> Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let start = Instant::now();
    let mut packet = CHANNEL.to_be_bytes().to_vec();
    packet.extend(u16::try_from(BYTES)?.to_be_bytes());
    packet.resize(4 + BYTES, 7);
    let mut buffer = [0; 2048];
    let mut missing = WINDOW;
    while !tally.stop.get() {
        for _ in 0..missing {
            // When it was sent comes back with it.
            packet[4..12]
                .copy_from_slice(&u64::try_from(start.elapsed().as_micros())?.to_be_bytes());
            socket.send(&packet).await?;
        }
        missing = match tokio::time::timeout(LOST, socket.recv(&mut buffer)).await {
            Ok(length) => {
                let sent =
                    buffer.get(4..12).filter(|_| matches!(length, Ok(length) if length > 12));
                let sent = u64::from_be_bytes(sent.context("a short packet")?.try_into()?);
                if tally.counting.get() {
                    let now = u64::try_from(start.elapsed().as_micros())?;
                    tally.done.set(tally.done.get() + 1);
                    tally.latencies.borrow_mut().push(u32::try_from(now.saturating_sub(sent))?);
                }
                1
            }
            Err(_) => {
                tally.lost.set(tally.lost.get() + WINDOW as u64);
                WINDOW
            }
        };
    }
    Ok(())
}

/// What a client of HTTP feels of a flood at the relay, all on one core.
fn flood(bench: &Bench<'_>, results: &mut Results, house: &House, relay: SocketAddr) -> Result<()> {
    let load = Load {
        connections: 8,
        rate: Some(500.0),
        measure: bench.effort.measure.max(Duration::from_secs(2)),
        ..bench.load(house.server.address, "hello", "/")
    };
    let challenged = || -> Result<u64> {
        house.api("turn")?["counters"]["challenged"].as_u64().context("no counters")
    };
    let (mut idle, mut flooded, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let before = challenged()?;
    for _ in 0..bench.effort.rounds {
        let calm = load.run(&house.server)?.p99;
        let over = AtomicBool::new(false);
        let stormy = std::thread::scope(|scope| {
            scope.spawn(|| strangers(relay, &over));
            let round = load.run(&house.server);
            over.store(true, Ordering::Relaxed);
            round
        })?;
        idle.push(calm);
        flooded.push(stormy.p99);
        ratios.push(stormy.p99 / calm);
    }
    let packets = challenged()? - before;
    let (low, middle, high) = spread(ratios);
    results.target(
        "HTTP p99 while strangers flood the relay with Allocates, on the same core",
        format!("≤ 2 × idle ({:.2} ms)", spread(idle).1),
        format!(
            "{middle:.2} × ({low:.2}–{high:.2}): {:.2} ms; {packets} Allocates at {FLOOD} a second",
            spread(flooded).1
        ),
        middle <= 2.0,
    );
    Ok(())
}

/// Sends Allocates without credentials at an even pace.
fn strangers(relay: SocketAddr, over: &AtomicBool) {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return };
    let packet = challenge().raw;
    let began = Instant::now();
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let due = began.elapsed().as_secs_f64() * f64::from(FLOOD);
        while f64::from(sent) < due {
            _ = socket.send_to(&packet, relay);
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
