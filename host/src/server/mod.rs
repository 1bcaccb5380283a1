//! The doors for clients.
//!
//! Owns listeners, connections, their timeouts and the drain at shutdown. It never knows what a request
//! means: `service` does. The dangers that shaped it: an accept loop that dies of a passing lack of
//! descriptors, a slow client that holds a place for ever, and a shutdown that cuts an answer in half.
//!
//! One current-thread runtime for each core, each with a listener of its own on the same address
//! (`SO_REUSEPORT`): a request stays on the core that accepted it. In measurements that costs a third less
//! CPU than one runtime over all cores.
//!
//! TLS and ALPN come between `accept` and `serve_connection`; nothing behind that point looks at sockets.

mod access_log;
mod asking;
mod calls;
pub mod descriptors;
mod failure;
mod gate;
mod limit;
mod preflight;
mod request_id;
mod room;
mod service;
mod timed_io;
mod unread;

pub use access_log::{AccessLog, Style};
pub use calls::Neighbourhood;
pub use gate::Gate;
pub use service::House;

use crate::config;
use crate::engine::Lane;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timed_io::TimedIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use unread::Unread;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long the accept loop rests when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams of one HTTP/2 connection at a time.
const H2_STREAMS: u32 = 200;
/// Buffer of one HTTP/1 connection at least; hyper refuses less.
const MIN_BUFFER: usize = 8192;

/// How shutdown goes: first stop, then (after the drain, or at a second signal) cut.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// No new connections; running responses finish.
    pub drain: CancellationToken,
    /// Everything ends now.
    pub cut: CancellationToken,
}

/// One listener for each thread on the same address. Port 0 takes a free port once for all.
///
/// # Errors
/// The address is taken or not of this machine; the sentence says which and how to go on.
pub fn bind(address: SocketAddr, threads: usize, knob: &str) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT a second house on the same address is refused; with it, it would share the
    // clients. So the first socket asks alone, and only then do the others join.
    let explain = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program is there: stop it, or choose another address with {knob} (port 0 \
                 takes a free one)"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need a permission: choose a higher one with {knob}")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("this machine does not have that address: choose another with {knob}")
            }
            _ => format!("see {knob}"),
        };
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}; {advice}"))
    };
    if address.port() != 0 {
        drop(listen(address, false).map_err(explain)?);
    }
    let first = listen(address, true).map_err(explain)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(address, true).map_err(explain)?);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts the serving threads. Each returns when its connections have ended, or were cut.
///
/// # Errors
/// A thread can't be started.
pub fn start(
    settings: &config::Server,
    listeners: Vec<TcpListener>,
    house: &Arc<House>,
    shutdown: &Shutdown,
) -> io::Result<Vec<JoinHandle<()>>> {
    let connections = &house.connections;
    let mut threads = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let settings = settings.clone();
        let house = house.clone();
        let shutdown = shutdown.clone();
        let connections = connections.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_keep_alive(Duration::from_secs(10))
            .build()?;
        threads.push(std::thread::Builder::new().name(format!("serve-{number}")).spawn(
            move || {
                Lane::Fast(number).enter();
                runtime.block_on(serve(settings, listener, house, shutdown, connections));
            },
        )?);
    }
    Ok(threads)
}

/// Counts a connection as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn serve(
    settings: config::Server,
    listener: TcpListener,
    house: Arc<House>,
    shutdown: Shutdown,
    connections: Arc<AtomicUsize>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("a listener could not be used: {error}");
            return;
        }
    };
    let builder = Arc::new(protocols(&settings));
    let tracker = TaskTracker::new();
    let mut refusals = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.drain.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client was gone before we came; the next one is waiting.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) =>
            {
                continue;
            }
            Err(error) => {
                said(&mut refusals, || {
                    tracing::warn!(
                        "no connection could be accepted: {error}; trying again each {ACCEPT_PAUSE:?} (is \
                         `ulimit -n` too low?)"
                    );
                });
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.fetch_add(1, Relaxed) >= settings.max_connections {
            connections.fetch_sub(1, Relaxed);
            said(&mut refusals, || {
                tracing::warn!(
                    "connections are refused: {} are open (server.max_connections)",
                    settings.max_connections
                );
            });
            continue;
        }
        // A WebSocket goes on counting after its connection has left this loop.
        let counted = Counted(connections.clone());
        _ = stream.set_nodelay(true);
        let unread = Unread::default();
        let io = TimedIo::new(stream, &settings, unread.clone());
        let held = Arc::new(counted);
        let service =
            service::connection(house.clone(), peer, room::Held::new(held.clone()), unread);
        let builder = builder.clone();
        let shutdown = shutdown.clone();
        tracker.spawn(async move {
            let _held = held;
            let connection =
                builder.serve_connection_with_upgrades(hyper_util::rt::TokioIo::new(io), service);
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                biased;
                result = connection.as_mut() => result,
                () = shutdown.drain.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = connection.as_mut() => result,
                        () = shutdown.cut.cancelled() => return,
                    }
                }
            };
            if let Err(error) = result {
                // Clients come and go as they like: of interest to nobody but who debugs one.
                tracing::debug!(%peer, "connection ended: {error}");
            }
        });
    }
    // From here on the system refuses new connections.
    drop(listener);
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = shutdown.cut.cancelled() => {}
    }
}

/// Says something once a second at most: whoever is refused tries again at once.
fn said(last: &mut Option<Instant>, say: impl FnOnce()) {
    if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
        *last = Some(Instant::now());
        say();
    }
}

fn protocols(settings: &config::Server) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_head.max(MIN_BUFFER))
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
