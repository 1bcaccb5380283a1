//! What a component between an upstream and its client adds to each event of a stream.

use super::measures::{Bench, Results, spread};
use super::subjects;
use anyhow::{Context, Result, bail};
use guesthouse_tests::guest;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

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
