//! The load generator: HTTP/1.1 over kept-alive connections from one core.
//!
//! It knows two ways to load. Closed: each connection sends the next request when it has the answer, which
//! shows what a request costs. Paced: requests are due at fixed times, and the time that one waits to be sent
//! counts as its latency, which shows what a client feels.

use super::process::Server;
use anyhow::{Context, Result, bail};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What to send, and how.
#[derive(Clone)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// The host that is asked for.
    pub host: String,
    /// The path.
    pub path: String,
    /// What is posted; none: it is a GET.
    pub body: Option<std::sync::Arc<str>>,
    /// Connections at a time.
    pub connections: usize,
    /// Requests a second over all connections; none: as many as there are answers.
    pub rate: Option<f64>,
    /// Before anything is counted.
    pub warm_up: Duration,
    /// While it is counted.
    pub measure: Duration,
}

/// What came of one round.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Round {
    /// Answers a second.
    pub rps: f64,
    /// CPU time of the server for each answer, in microseconds.
    pub cpu: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile of the latency in milliseconds.
    pub p99: f64,
}

#[derive(Default)]
struct Tally {
    counting: Cell<bool>,
    stop: Cell<bool>,
    done: Cell<u64>,
    /// In microseconds.
    latencies: RefCell<Vec<u32>>,
    error: RefCell<Option<anyhow::Error>>,
}

impl Load {
    /// The request as it goes over the wire.
    fn request(&self) -> Vec<u8> {
        let Self { path, host, .. } = self;
        match &self.body {
            None => format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            Some(body) => format!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        }
        .into_bytes()
    }

    /// Loads the server for one round.
    ///
    /// # Errors
    /// The server gave anything but 200, or broke the protocol.
    pub fn run(&self, server: &Server) -> Result<Round> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        let round = local.block_on(&runtime, async {
            let tally = Rc::new(Tally::default());
            let tasks: Vec<_> = (0..self.connections)
                .map(|number| {
                    let (load, tally) = (self.clone(), tally.clone());
                    tokio::task::spawn_local(async move {
                        if let Err(error) = load.connection(number, &tally).await {
                            tally.error.borrow_mut().get_or_insert(error);
                            tally.stop.set(true);
                        }
                    })
                })
                .collect();
            tokio::time::sleep(self.warm_up).await;
            let (began, cpu) = (Instant::now(), server.cpu());
            tally.counting.set(true);
            tokio::time::sleep(self.measure).await;
            tally.counting.set(false);
            let (took, cpu) = (began.elapsed().as_secs_f64(), server.cpu() - cpu);
            tally.stop.set(true);
            for task in tasks {
                // One that waits for an answer need not have it.
                task.abort();
                _ = task.await;
            }
            if let Some(error) = tally.error.borrow_mut().take() {
                return Err(error);
            }
            let done = tally.done.get().max(1) as f64;
            let mut latencies = tally.latencies.borrow_mut();
            latencies.sort_unstable();
            let at = |part: f64| {
                let place = (latencies.len() as f64 * part) as usize;
                latencies.get(place).copied().map_or(f64::NAN, |us| f64::from(us) / 1e3)
            };
            Ok(Round { rps: done / took, cpu: cpu * 1e6 / done, p50: at(0.5), p99: at(0.99) })
        });
        round.with_context(|| {
            format!("loading http://{}{} at {}", self.host, self.path, self.address)
        })
    }

    async fn connection(&self, number: usize, tally: &Tally) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let request = self.request();
        let mut buffer = Vec::with_capacity(64 << 10);
        let pace = self.rate.map(|rate| Duration::from_secs_f64(self.connections as f64 / rate));
        let began = Instant::now();
        let mut turn = 0;
        while !tally.stop.get() {
            let due = match pace {
                None => Instant::now(),
                Some(pace) => {
                    // The connections take turns.
                    let due = began
                        + pace.mul_f64(number as f64 / self.connections as f64)
                        + pace.saturating_mul(turn);
                    turn += 1;
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            stream.write_all(&request).await?;
            read_answer(&mut stream, &mut buffer).await?;
            if tally.counting.get() {
                tally.done.set(tally.done.get() + 1);
                let us = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                tally.latencies.borrow_mut().push(us);
            }
        }
        Ok(())
    }
}

/// Reads one answer to its end. There is never more than one under way.
pub async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let head = loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            break head + 4;
        }
        more(stream, buffer).await?;
    };
    if !buffer.starts_with(b"HTTP/1.1 200") {
        let line = buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        bail!("the answer was {}", String::from_utf8_lossy(line));
    }
    match content_length(&buffer[..head]) {
        Some(length) => {
            while buffer.len() < head + length {
                more(stream, buffer).await?;
            }
        }
        None => {
            while !buffer.ends_with(b"0\r\n\r\n") {
                more(stream, buffer).await?;
            }
        }
    }
    Ok(())
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
        .and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok())
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    if stream.read_buf(buffer).await? == 0 {
        bail!("the server closed the connection");
    }
    Ok(())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
