//! What the switch from one version to another costs, and whether a client notices it.

use super::measures::{Bench, Results, spread};
use super::subjects::House;
use anyhow::{Context, Result, ensure};
use guesthouse_tests::guest;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Between two switches.
const PAUSE: Duration = Duration::from_millis(20);

/// Two compiled versions take each other's place, over and over, while 64 connections send as fast as they
/// get answers. One answer that is not 200, or one connection that ends, and there is no figure.
pub fn switch(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let hello = guest("wit_bindgen");
    let house = bench.house("switch", &[("hello", &hello, "instances = { reuse = 1000 }")])?;
    deployed(&house, "deployments", r#"{"force":true}"#)?;
    let load = bench.load(house.server.address, "hello", "/");
    let ended = AtomicBool::new(false);
    let (rounds, switches) = std::thread::scope(|scope| {
        let switching = scope.spawn(|| back_and_forth(&house, &ended));
        let rounds: Result<Vec<_>> =
            (0..bench.effort.rounds).map(|_| load.run(&house.server)).collect();
        ended.store(true, Relaxed);
        (rounds, switching.join())
    });
    let answers: f64 =
        rounds?.iter().map(|round| round.rps).sum::<f64>() * bench.effort.measure.as_secs_f64();
    let switches = switches.ok().context("the thread that switches panicked")??;
    ensure!(!switches.is_empty(), "there was no switch while the load ran");
    let count = switches.len();
    let (_, whole, _) = spread(switches.iter().map(|switch| switch.whole));
    let (low, middle, high) = spread(switches.iter().map(|switch| switch.own));
    results.target(
        "swap of a compiled version under full load: switch time; failed requests",
        "≤ 2 ms; 0",
        format!(
            "{middle:.3} ms ({low:.3}–{high:.3}) of {whole:.0} ms for the whole rollback; 0 of {answers:.0} in \
             {count} swaps"
        ),
        high <= 2.0,
    );
    Ok(())
}

/// One switch, in milliseconds.
struct Switch {
    /// From the durable write until every new request met the new version.
    own: f64,
    /// From the question until everything was ready and switched.
    whole: f64,
}

fn back_and_forth(house: &House, ended: &AtomicBool) -> Result<Vec<Switch>> {
    let mut switches = Vec::new();
    let mut version = 2;
    while !ended.load(Relaxed) {
        version = 3 - version;
        let body = format!("{{\"version\":{version}}}");
        switches.push(deployed(house, "plugins/hello/rollback", &body)?);
        std::thread::sleep(PAUSE);
    }
    Ok(switches)
}

fn deployed(house: &House, path: &str, body: &str) -> Result<Switch> {
    let answer = house.call("POST", path, body)?;
    let told: serde_json::Value = serde_json::from_str(&answer)?;
    let number = |key: &str| told[key].as_f64().with_context(|| format!("no {key} in {answer}"));
    Ok(Switch { own: number("switch_micros")? / 1e3, whole: number("took_ms")? })
}
