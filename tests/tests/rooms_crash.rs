//! The two promises of rooms, with the house killed at the worst moments: what was acknowledged is kept, exactly
//! once and in one order; and no client has ever seen what is not kept.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 6;

/// What one client saw until the house was gone.
#[derive(Default)]
struct Saw {
    /// Appends that were acknowledged to it.
    acknowledged: Vec<String>,
    /// Lines by number, as they were told to everyone.
    lines: Vec<(u64, String)>,
}

/// Appends until the connection breaks, with a few on their way at a time.
async fn client(mut socket: WebSocket, number: usize) -> Saw {
    let mut saw = Saw::default();
    let mut sent = 0;
    for _ in 0..4 {
        sent += 1;
        if send(&mut socket, number, sent).await.is_err() {
            return saw;
        }
    }
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let (first, rest) = text.as_str().split_once(' ').unwrap();
        if first == "ok" {
            saw.acknowledged.push(rest.to_owned());
            sent += 1;
            if send(&mut socket, number, sent).await.is_err() {
                break;
            }
        } else {
            saw.lines.push((first.parse().unwrap(), rest.to_owned()));
        }
    }
    saw
}

async fn send(socket: &mut WebSocket, number: usize, sent: u32) -> Result<(), ()> {
    let message = Message::text(format!("append c{number}-{sent}"));
    futures::SinkExt::send(&mut socket.0, message).await.map_err(drop)
}

/// Compares what clients saw with what is kept.
fn check(log: &[String], all: &[Saw], what: &str) {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log {
        *places.entry(line).or_default() += 1;
    }
    for (line, times) in &places {
        assert_eq!(*times, 1, "{what}: {line} is kept {times} times");
    }
    for saw in all {
        for line in &saw.acknowledged {
            assert!(
                places.contains_key(line.as_str()),
                "{what}: {line} was acknowledged and is lost"
            );
        }
        let mut last = 0;
        for (number, line) in &saw.lines {
            assert!(*number > last, "{what}: {number} came after {last}");
            last = *number;
            let kept = log.get(usize::try_from(*number).unwrap() - 1);
            assert_eq!(kept, Some(line), "{what}: line {number} was seen and is not kept");
        }
    }
}

async fn round(point: &str, count: u32, seed: u64) {
    let what = format!("GUESTHOUSE_FAULT={point}:{count} (seed {seed})");
    let config =
        plugin("probe", &guest("room"), "rooms = { routes = [\"/{room}\"], rate = 100000 }");
    let house = House::start_with(&config, &[("GUESTHOUSE_FAULT", &format!("{point}:{count}"))]);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        match WebSocket::attempt(&house, "/log").await {
            Some(socket) => clients.push(tokio::spawn(client(socket, number))),
            // The house may die while they come.
            None => break,
        }
    }
    let mut all = Vec::new();
    for client in clients {
        all.push(tokio::time::timeout(PATIENCE, client).await.expect(&what).unwrap());
    }
    let house = house.crash_and_restart();
    let text = reqwest::get(format!("{}/log?log", house.url)).await.unwrap().text().await.unwrap();
    let log: Vec<String> = text.lines().map(str::to_owned).collect();
    check(&log, &all, &what);
    // And nobody seems to be there who is not.
    let url = format!("{}/log?open", house.url);
    assert_eq!(reqwest::get(url).await.unwrap().text().await.unwrap(), "0", "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_unkept_is_seen_wherever_the_house_dies() {
    let rounds: u32 =
        std::env::var("GUESTHOUSE_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let seed = std::env::var("GUESTHOUSE_SEED")
        .map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("GUESTHOUSE_SEED={seed} repeats this");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        for (point, most) in [("before-commit", 400), ("after-commit", 200), ("mid-send", 1500)] {
            round(point, random.random_range(1..most), seed).await;
        }
    }
}

#[test]
fn the_checker_notices_what_it_is_there_for() {
    let log = ["a", "b"].map(str::to_owned);
    let saw = |acknowledged: &[&str], lines: &[(u64, &str)]| Saw {
        acknowledged: acknowledged.iter().map(|line| (*line).to_owned()).collect(),
        lines: lines.iter().map(|(number, line)| (*number, (*line).to_owned())).collect(),
    };
    let passes =
        |log: &[String], saw: Saw| std::panic::catch_unwind(|| check(log, &[saw], "")).is_ok();
    assert!(passes(&log, saw(&["b"], &[(1, "a"), (2, "b")])));
    assert!(!passes(&log, saw(&["c"], &[])));
    assert!(!passes(&log, saw(&[], &[(3, "c")])));
    assert!(!passes(&log, saw(&[], &[(1, "b")])));
    assert!(!passes(&log, saw(&[], &[(2, "b"), (1, "a")])));
    assert!(!passes(&["a", "a"].map(str::to_owned), saw(&[], &[])));
}
