//! What a component between an upstream and its client adds to a stream: to each event, to its speed, and in memory
//! for each of many.

use super::measures::{Bench, Results, spread};
use super::native::{PACE, TOKENS};
use super::process::Server;
use super::subjects::{self, House};
use anyhow::{Context, Result, bail};
use guesthouse_tests::{guest, house_folder};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

/// How long it may take until all streams are open.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams at a time.
const STREAMS: usize = 500;

/// Directly and through a component in turns; the upstream is on the core of the clients.
pub fn events(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let upstream = subjects::upstream()?;
    let proxy = guest("proxy");
    let grant = format!("fetch = [\"http://{}\"]\nlimits = {{ wall = \"1h\" }}", upstream.address);
    let house = bench.house("events", &[("proxy", &proxy, &grant)])?;
    let target = format!("/events?{}", upstream.address);
    let (mut direct, mut added) = (Vec::new(), Vec::new());
    for _ in 0..bench.effort.rounds {
        let without = median(upstream.address, "upstream", "/events", bench.effort.measure)?;
        let with = median(house.server.address, "proxy", &target, bench.effort.measure)?;
        direct.push(without);
        added.push(with - without);
    }
    let (low, middle, high) = spread(added);
    let (_, direct, _) = spread(direct);
    results.target(
        "server-sent event through a proxying component, added p50",
        format!("≤ 60 µs (direct: {direct:.0} µs)"),
        format!("{middle:.0} µs ({low:.0}–{high:.0})"),
        middle <= 60.0,
    );
    Ok(())
}

/// Median time from the sending of an event to its arrival, in microseconds.
fn median(address: SocketAddr, host: &str, path: &str, during: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().context("no answer")??;
    if !status.contains(" 200 ") {
        bail!("the answer was {status}");
    }
    let began = Instant::now();
    let mut latencies = Vec::new();
    while began.elapsed() < during {
        let line = lines.next().context("the stream ended")??;
        let Some(sent) = line.strip_prefix("data: ") else { continue };
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as f64;
        latencies.push((now - sent.trim().parse::<f64>()?) / 1e3);
    }
    // The first events find everything cold.
    latencies.drain(..latencies.len() / 10);
    Ok(spread(latencies).1)
}

/// A house whose OpenAI plugin has this upstream for every chat.
fn house(bench: &Bench<'_>, name: &str, upstream: &Server) -> Result<House> {
    let openai = house_folder().join("plugins/openai.wasm");
    let at = upstream.address;
    let settings = format!(
        "kv = [\"ai-logs\"]\nfetch = [\"http://{at}\"]\nconfig = {{ base_url = \"http://{at}/{name}\" }}\n\
         instances = {{ reuse = 1000 }}\n\
         limits = {{ concurrency = 600, outbound = 600, cpu = \"1h\", wall = \"1h\" }}\n"
    );
    bench.house(name, &[("openai", &openai, &settings)])
}

/// A chat that wants its answer as a stream.
fn chat(host: &str, path: &str) -> Vec<u8> {
    let body = "{\"model\":\"mock\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Go on.\"}]}";
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One answer as fast as it comes, directly and through the OpenAI plugin in turns.
pub fn tokens(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let upstream = subjects::upstream()?;
    let house = house(bench, "burst", &upstream)?;
    let (mut ratios, mut speeds, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    speed(house.server.address, &chat("openai", "/openai"))?;
    for _ in 0..bench.effort.rounds {
        let direct = speed(upstream.address, &chat("upstream", "/burst/chat/completions"))?;
        let cpu = house.server.cpu();
        let through = speed(house.server.address, &chat("openai", "/openai"))?;
        costs.push((house.server.cpu() - cpu) * 1e6 / TOKENS as f64);
        ratios.push(through / direct);
        speeds.push(through);
    }
    let (low, middle, high) = spread(ratios);
    results.target(
        "tokens a second of one answer through the OpenAI plugin, against direct",
        "none",
        format!(
            "{middle:.2} ({low:.2}–{high:.2}): {:.0} tokens/s, {:.1} µs of CPU time each",
            spread(speeds).1,
            spread(costs).1
        ),
        true,
    );
    Ok(())
}

/// Pieces of text a second of one answer.
fn speed(address: SocketAddr, request: &[u8]) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let began = Instant::now();
    stream.write_all(request)?;
    let mut answer = BufReader::with_capacity(64 << 10, stream);
    let mut status = String::new();
    answer.read_line(&mut status)?;
    if !status.contains(" 200 ") {
        bail!("the answer was {status}");
    }
    let mut field = String::new();
    while !field.ends_with("\r\n\r\n") && answer.read_line(&mut field)? > 0 {}
    let mut lines = BufReader::with_capacity(64 << 10, Chunked { answer, left: 0 }).lines();
    let mut left = TOKENS;
    while left > 0 {
        let line = lines.next().context("the stream ended")??;
        left -= usize::from(line.starts_with("data: {"));
    }
    Ok(TOKENS as f64 / began.elapsed().as_secs_f64())
}

/// A body in chunks (RFC 9112 §7.1): a line of text may go on in the next chunk.
struct Chunked<R> {
    answer: R,
    /// Bytes of this chunk, and of the end of its line, that are still to come.
    left: usize,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        const LINE_END: usize = 2;
        if self.left == LINE_END {
            self.answer.read_exact(&mut [0; LINE_END])?;
            self.left = 0;
        }
        if self.left == 0 {
            let mut size = String::new();
            if self.answer.read_line(&mut size)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
            if size == 0 {
                return Ok(0);
            }
            self.left = size + LINE_END;
        }
        let most = into.len().min(self.left - LINE_END);
        let read = self.answer.read(into.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

/// Many answers at the speed of language models, all through the OpenAI plugin on one core.
pub fn many(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let upstream = subjects::upstream()?;
    let during = (bench.effort.measure * 2).max(Duration::from_secs(4));
    let (mut each, mut delays, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let house = house(bench, "paced", &upstream)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        // What the first stream brings is not each one's.
        local.block_on(&runtime, listen(house.server.address, 1, during / 4, &Barrier::new(1)))?;
        let before = house.server.rss();
        let work = async {
            let open = Barrier::new(STREAMS + 1);
            let streams = listen(house.server.address, STREAMS, during, &open);
            let middle = async {
                open.wait().await;
                tokio::time::sleep(during / 2).await;
                let (cpu, began) = (house.server.cpu(), Instant::now());
                tokio::time::sleep(during / 4).await;
                (house.server.rss(), (house.server.cpu() - cpu) / began.elapsed().as_secs_f64())
            };
            let (streams, middle) = tokio::join!(streams, middle);
            anyhow::Ok((streams?, middle))
        };
        let (latencies, (rss, share)) = local.block_on(&runtime, work)?;
        each.push(rss.saturating_sub(before) as f64 / STREAMS as f64);
        delays.push(spread(latencies).1);
        used.push(share);
    }
    let (low, middle, high) = spread(each);
    results.target(
        "resident memory, each of 500 streams through the OpenAI plugin on one core",
        "≤ 80 KiB",
        format!(
            "{middle:.0} KiB ({low:.0}–{high:.0}); at {:.0} tokens/s in all {:.0} % of the core, p50 {:.1} ms from \
             upstream to client",
            STREAMS as f64 / PACE.as_secs_f64(),
            spread(used).1 * 100.0,
            spread(delays).1
        ),
        middle <= 80.0,
    );
    Ok(())
}

/// Opens so many streams, waits at the barrier until each has brought something, and reads them all for a while:
/// milliseconds from the sending of each piece to its arrival.
async fn listen(
    address: SocketAddr,
    count: usize,
    during: Duration,
    open: &Barrier,
) -> Result<Vec<f64>> {
    let readers = (0..count).map(|_| async move {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(&chat("openai", "/openai")).await?;
        let mut lines = tokio::io::BufReader::new(stream).lines();
        let status = lines.next_line().await?.context("no answer")?;
        if !status.contains(" 200 ") {
            bail!("the answer was {status}");
        }
        let mut end = None;
        let mut latencies = Vec::new();
        while end.is_none_or(|end| Instant::now() < end) {
            let line = lines.next_line().await?.context("a stream ended")?;
            let Some((_, rest)) = line.split_once("\"sent\":") else { continue };
            let sent: f64 = rest.split(',').next().context("no time")?.parse()?;
            let now = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as f64;
            if end.is_none() {
                open.wait().await;
                end = Some(Instant::now() + during);
            } else {
                latencies.push((now - sent) / 1e6);
            }
        }
        Ok(latencies)
    });
    let all = tokio::time::timeout(PATIENCE + during, futures::future::try_join_all(readers));
    Ok(all.await.context("the streams don't all come")??.concat())
}
