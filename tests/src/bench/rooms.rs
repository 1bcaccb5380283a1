//! Rooms against Durable Objects with hibernating WebSockets, and against a WebSocket server without rooms.
//!
//! The same client, the same messages: `e…` comes back, `b…` goes to everyone, `a…` is kept on disk before it is
//! answered. The clients share one core, so where there are many of them it is the server's CPU time that tells.

use super::load::Round;
use super::measures::{Bench, Results, Row, Table, spread};
use super::process::{SERVER_CORE, Server};
use super::subjects::House;
use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use guesthouse_tests::guest;
use guesthouse_tests::websocket::WebSocket;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

const NATIVE: &str = "tokio-tungstenite without rooms";
const HOUSE: &str = "Guesthouse";
const WORKERD: &str = "workerd, hibernating WebSockets";
/// Clients of one room that all talk.
const TALKING: usize = 64;
/// Clients of one room that listen to one.
const LISTENING: usize = 1000;
/// Rooms at work at a time, with one client each.
const ACTIVE: usize = 1000;
/// Sockets that say nothing.
const IDLE: usize = 10_000;

/// A server of this comparison.
struct Subject {
    name: &'static str,
    server: Server,
    /// Whether it has rooms, and a disk.
    rooms: bool,
}

/// What all clients do.
#[derive(Clone, Copy)]
enum Talk {
    /// Says something that comes back, and so on.
    Alone(&'static str),
    /// The first says something that everyone gets.
    Broadcast,
}

struct Measure {
    title: &'static str,
    talk: Talk,
    clients: usize,
    rooms: usize,
    native: bool,
}

pub fn rooms(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let mut subjects = vec![
        Subject { name: NATIVE, server: native()?, rooms: false },
        Subject { name: HOUSE, server: house(bench)?.server, rooms: true },
    ];
    match bench.tools.workerd.as_deref().map(|program| workerd(program, bench.folder.path())) {
        Some(Ok(server)) => subjects.push(Subject { name: WORKERD, server, rooms: true }),
        Some(Err(error)) => results.skipped.push(format!("rooms of workerd: {error:#}")),
        None => results.skipped.push(format!("{WORKERD}: not installed, or left out by --with")),
    }
    let measures = [
        Measure {
            title: "Echo over WebSockets",
            talk: Talk::Alone("echo"),
            clients: TALKING,
            rooms: 1,
            native: true,
        },
        Measure {
            title: "A thousand rooms at once",
            talk: Talk::Alone("echo"),
            clients: ACTIVE,
            rooms: ACTIVE,
            native: false,
        },
        Measure {
            title: "Appends on disk",
            talk: Talk::Alone("append"),
            clients: TALKING,
            rooms: TALKING,
            native: false,
        },
        Measure {
            title: "Broadcast to a thousand sockets",
            talk: Talk::Broadcast,
            clients: LISTENING,
            rooms: 1,
            native: false,
        },
    ];
    let mut places = Vec::new();
    for measure in &measures {
        let table = measure.run(bench, &subjects)?;
        places.push(results.tables.len());
        results.tables.push(table);
    }
    if let [echo, many, appends, broadcast] = places.as_slice() {
        results.ratio("echo in a room, against a bare WebSocket server", 0.6, *echo, NATIVE, HOUSE);
        results.ratio("echo in a room, against workerd", 2.0, *echo, WORKERD, HOUSE);
        results.ratio("echo in 1,000 rooms, against workerd", 2.0, *many, WORKERD, HOUSE);
        results.ratio(
            "broadcast to 1,000 sockets, against workerd",
            2.0,
            *broadcast,
            WORKERD,
            HOUSE,
        );
        // How many there were, not what they cost: the disk decides.
        let what = "durable appends a second, against workerd";
        results.rates(what, Some(1.0), *appends, WORKERD, HOUSE);
    }
    Ok(())
}

impl Measure {
    fn run(&self, bench: &Bench<'_>, subjects: &[Subject]) -> Result<Table> {
        eprintln!("  {}", self.title);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let mut rows = Vec::new();
            for subject in subjects.iter().filter(|subject| subject.rooms || self.native) {
                let sockets = self.open(subject.server.address).await;
                let sockets = sockets.with_context(|| subject.name.to_owned())?;
                let row = Row { name: subject.name.to_owned(), rounds: Vec::new() };
                rows.push((row, subject, sockets));
            }
            for _ in 0..bench.effort.rounds {
                for (row, subject, sockets) in &mut rows {
                    let talking = std::mem::take(sockets);
                    let (round, back) = self
                        .round(bench, &subject.server, talking)
                        .await
                        .with_context(|| subject.name.to_owned())?;
                    row.rounds.push(round);
                    *sockets = back;
                }
            }
            let rows = rows.into_iter().map(|(row, ..)| row).collect();
            Ok(Table { title: self.title, rows })
        })
    }

    async fn open(&self, address: SocketAddr) -> Result<Vec<WebSocket>> {
        let mut sockets = Vec::new();
        for n in 0..self.clients {
            let path = format!("/room/{}-{}", self.title.len(), n % self.rooms);
            sockets.push(open(address, &path).await?);
        }
        Ok(sockets)
    }

    /// One round; the sockets are given back, with nothing under way.
    async fn round(
        &self,
        bench: &Bench<'_>,
        server: &Server,
        sockets: Vec<WebSocket>,
    ) -> Result<(Round, Vec<WebSocket>)> {
        let tally = Rc::new(Tally::default());
        let tasks: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(n, socket)| {
                let (talk, tally) = (self.talk, tally.clone());
                tokio::task::spawn_local(async move {
                    match talk {
                        Talk::Alone(said) => alone(socket, said, &tally).await,
                        Talk::Broadcast => together(socket, n == 0, &tally).await,
                    }
                })
            })
            .collect();
        tokio::time::sleep(bench.effort.warm_up).await;
        let (began, cpu) = (Instant::now(), server.cpu());
        tally.counting.set(true);
        tokio::time::sleep(bench.effort.measure).await;
        tally.counting.set(false);
        let (took, cpu) = (began.elapsed().as_secs_f64(), server.cpu() - cpu);
        tally.stop.set(true);
        let mut back = Vec::new();
        for task in tasks {
            let ended = tokio::time::timeout(Duration::from_secs(20), task).await;
            back.push(ended.context("a client got no answer")???);
        }
        let done = tally.done.get().max(1) as f64;
        let (_, p50, _) = spread(tally.latencies.borrow().iter().copied());
        let p99 = tally.part(0.99);
        Ok((Round { rps: done / took, cpu: cpu * 1e6 / done, p50, p99 }, back))
    }
}

#[derive(Default)]
struct Tally {
    counting: Cell<bool>,
    stop: Cell<bool>,
    done: Cell<u64>,
    /// In milliseconds.
    latencies: RefCell<Vec<f64>>,
}

impl Tally {
    fn count(&self, took: Duration) {
        if self.counting.get() {
            self.done.set(self.done.get() + 1);
            self.latencies.borrow_mut().push(took.as_secs_f64() * 1e3);
        }
    }

    fn part(&self, part: f64) -> f64 {
        let mut all = self.latencies.borrow_mut();
        all.sort_by(f64::total_cmp);
        all.get((all.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }
}

async fn next(socket: &mut WebSocket) -> Result<String> {
    loop {
        match socket.0.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => bail!("not a text: {other:?}"),
        }
    }
}

async fn alone(mut socket: WebSocket, said: &str, tally: &Tally) -> Result<WebSocket> {
    while !tally.stop.get() {
        let began = Instant::now();
        socket.0.send(Message::text(said)).await?;
        next(&mut socket).await?;
        tally.count(began.elapsed());
    }
    Ok(socket)
}

/// What a message says is when it was sent. The last one says that there will be no more.
async fn together(mut socket: WebSocket, speaks: bool, tally: &Tally) -> Result<WebSocket> {
    loop {
        if speaks {
            let now = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
            let said = if tally.stop.get() { "bye".to_owned() } else { format!("b{now}") };
            socket.0.send(Message::text(said)).await?;
        }
        let heard = next(&mut socket).await?;
        if heard == "bye" {
            return Ok(socket);
        }
        let sent: u128 = heard.get(1..).unwrap_or_default().parse()?;
        let took = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos().saturating_sub(sent);
        tally.count(Duration::from_nanos(u64::try_from(took)?));
    }
}

async fn open(address: SocketAddr, path: &str) -> Result<WebSocket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match WebSocket::over(stream, &address.to_string(), path, &[]).await {
        Ok(socket) => Ok(socket),
        Err(answer) => bail!("{path} was answered {}", answer.status),
    }
}

fn house(bench: &Bench<'_>) -> Result<House> {
    let config = format!(
        "[server]\nthreads = 1\naccess_log = false\nmax_connections = 20000\n[plugins.room]\ncomponent = {:?}\n\
         rooms = {{ routes = [\"/room/{{room}}\"], rate = 1000000, queue = \"16MiB\", ping = \"10m\", \
         plugin_events = 100000000, idle = \"2s\" }}\n",
        guest("room_bench").display().to_string()
    );
    let file = bench.folder.path().join("rooms.toml");
    std::fs::write(&file, config)?;
    House::start(&file, &bench.folder.path().join("rooms"))
}

/// A Durable Object that does what the room does, in the way of Cloudflare's manual.
fn workerd(program: &Path, folder: &Path) -> Result<Server> {
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, guesthouse_tests::port()).into();
    let folder = folder.join("workerd-rooms");
    std::fs::create_dir_all(folder.join("disk"))?;
    std::fs::write(folder.join("room.js"), OBJECT)?;
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
           services = [(name = \"main\", worker = .main),\n\
             (name = \"disk\", disk = (path = \"{}\", writable = true))],\n\
           sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")]\n\
         );\n\
         const main :Workerd.Worker = (\n\
           modules = [(name = \"room.js\", esModule = embed \"room.js\")],\n\
           compatibilityDate = \"2026-01-01\",\n\
           durableObjectNamespaces = [(className = \"Room\", uniqueKey = \"bench\", enableSql = true)],\n\
           durableObjectStorage = (localDisk = \"disk\"),\n\
           bindings = [(name = \"ROOM\", durableObjectNamespace = \"Room\")],\n\
         );\n",
        folder.join("disk").display()
    );
    let file = folder.join("workerd.capnp");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(command, address)
}

const OBJECT: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {
  async fetch() {
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
  async webSocketMessage(socket, message) {
    if (message[0] === "b") {
      for (const each of this.ctx.getWebSockets()) each.send(message);
    } else if (message[0] === "a") {
      this.next = (this.next ?? 0) + 1;
      this.ctx.storage.put(String(this.next), message);
      socket.send("ok");
    } else {
      socket.send(message);
    }
  }
}
export default {
  fetch(request, env) {
    const name = new URL(request.url).pathname;
    return env.ROOM.get(env.ROOM.idFromName(name)).fetch(request);
  },
};
"#;

fn native() -> Result<Server> {
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, guesthouse_tests::port()).into();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["native-websocket", &address.to_string()]);
    Server::start_on(SERVER_CORE, command, address)
}

/// Echoes until it is killed. The client's key is always the same, and so is the proof.
pub fn serve(address: SocketAddr) -> Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::bind(address).await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await? == 0 {
                        return Ok(());
                    }
                }
                stream.write_all(ANSWER).await?;
                let config =
                    WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(4096);
                let mut web =
                    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
                while let Some(Ok(message)) = web.next().await {
                    if message.is_text() {
                        web.send(message).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
    })
}

/// Sockets that say nothing: what each costs, and how fast a room wakes.
pub fn sockets(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let house = house(bench)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let room = |n: usize| format!("/room/{}", n % 100);
        let mut sockets = Vec::new();
        for n in 0..100 {
            sockets.push(open(house.server.address, &room(n)).await?);
        }
        asleep(&house).await?;
        let before = house.server.rss();
        for n in 100..IDLE {
            sockets.push(open(house.server.address, &room(n)).await?);
        }
        asleep(&house).await?;
        let each = house.server.rss().saturating_sub(before) as f64 / (IDLE - 100) as f64;
        results.target(
            &format!("resident memory of an idle socket, {IDLE} of them"),
            "≤ 12 KiB",
            format!("{each:.1} KiB"),
            each <= 12.0,
        );
        let mut waits = Vec::new();
        for socket in sockets.iter_mut().take(100) {
            let began = Instant::now();
            socket.0.send(Message::text("echo")).await?;
            next(socket).await?;
            waits.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let (low, middle, high) = spread(waits);
        results.target(
            "a message wakes a room and is answered",
            "≤ 2 ms",
            format!("{middle:.2} ms ({low:.2}–{high:.2})"),
            middle <= 2.0,
        );
        Ok(())
    })
}

async fn asleep(house: &House) -> Result<()> {
    let began = Instant::now();
    loop {
        let list = house.api("rooms?plugin=room")?;
        let rooms = list["rooms"].as_array().context("no list of rooms")?;
        if rooms.iter().all(|room| room["awake"] == false) {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(60) {
            bail!("rooms do not sleep");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
