//! Guests that do what no guest should: the table of answers holds, the house stays up, neighbours are answered.

use guesthouse_tests::{House, PATIENCE, guest, plugin};
use reqwest::StatusCode;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// `http` is hostile in its HTTP, `code` in its computations; each has what the test sets beside it.
fn house(server: &str, rest: &str) -> House {
    let table = |name: &str, component: &str, rest: &str| {
        plugin(name, &guest(component), &format!("routes = [\"http://{name}/*\"]\n{rest}"))
    };
    House::start(
        &(format!("[server]\n{server}\n")
            + &table("http", "hostile_http", rest)
            + &table("code", "hostile", rest)
            + &table("three", "wasip3", rest)
            + &table("neighbour", "wit_bindgen", "")),
    )
}

/// Never open, so that every answer is the plugin's own.
const NO_BREAKER: &str = "breaker = { failures = 0 }";

async fn get(house: &House, host: &str, path: &str) -> (StatusCode, String) {
    let request = reqwest::Client::new().get(format!("{}{path}", house.url)).header("host", host);
    let answer = match request.send().await {
        Ok(answer) => answer,
        // The connection ended before there was a head.
        Err(error) => return (StatusCode::from_u16(599).unwrap(), format!("cut: {error}")),
    };
    (answer.status(), answer.text().await.unwrap_or_else(|error| format!("cut: {error}")))
}

async fn assert_neighbour_answers(house: &House) {
    assert_eq!(
        get(house, "neighbour", "/").await,
        (StatusCode::OK, "hello from wit-bindgen".into())
    );
}

/// Waits until no request of the plugin is at work.
fn wait_until_idle(house: &House, plugin: &str) {
    let began = Instant::now();
    while house.api(&format!("/v1/plugins/{plugin}"))["version"]["running"] != 0 {
        assert!(began.elapsed() < PATIENCE, "still at work:\n{}", house.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn ten_thousand_header_fields_are_passed_on_or_a_trap() {
    let house = house("", NO_BREAKER);
    assert_eq!(get(&house, "http", "/headers?50").await, (StatusCode::OK, "all".into()));
    // 128 KiB of fields are allowed (limits.headers); beyond is a trap.
    assert_eq!(get(&house, "http", "/headers?1000000").await.0, 500);
    house.wait_for_log("the plugin trapped");
    // What is within the limit is passed on, as many as there are; this client could not read it.
    let head = "GET /headers?10000 HTTP/1.1\r\nhost: http\r\nconnection: close\r\n\r\n";
    let answer = house.raw(head.as_bytes());
    let status = answer.get(9..12).unwrap_or_default();
    assert!(
        (status == "200" && answer.contains("x-9999: y")) || status == "500",
        "{}",
        &answer[..answer.len().min(200)]
    );
    assert_neighbour_answers(&house).await;
}

#[tokio::test]
async fn header_fields_that_would_split_a_response_are_refused_to_the_guest() {
    let house = house("", NO_BREAKER);
    assert_eq!(get(&house, "http", "/crlf").await, (StatusCode::OK, "false false".into()));
    assert_eq!(get(&house, "http", "/framing").await, (StatusCode::OK, "0".into()));
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_was_promised_is_cut_and_never_mixed_with_the_next() {
    let house = house("", NO_BREAKER);
    assert_eq!(get(&house, "http", "/length?10").await.1.len(), 10);
    for wrong in [5, 15] {
        let (_, text) = get(&house, "http", &format!("/length?{wrong}")).await;
        assert!(text.starts_with("cut") || text.len() <= 10, "{wrong}: {text}");
        // The same connection, if it is still there, must give a whole answer next.
        let answer = house.raw(
            format!(
                "GET /length?{wrong} HTTP/1.1\r\nhost: http\r\n\r\n\
                 GET / HTTP/1.1\r\nhost: http\r\nconnection: close\r\n\r\n"
            )
            .as_bytes(),
        );
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(
            body.chars().take_while(|c| *c == 'x').count() <= 10,
            "more than was promised: {answer}"
        );
    }
}

#[tokio::test]
async fn a_response_without_end_is_cut_at_the_wall_clock_and_the_log_names_the_knob() {
    let house = house("", &format!("limits = {{ wall = \"500ms\" }}\n{NO_BREAKER}"));
    let (status, text) = get(&house, "http", "/endless").await;
    assert_eq!(status, 200);
    assert!(text.starts_with("cut"), "{} bytes and a proper end", text.len());
    house.wait_for_log("limits.wall");
    wait_until_idle(&house, "http");
}

#[tokio::test]
async fn writing_without_asking_for_room_is_a_trap_and_takes_no_memory() {
    let house = house("", NO_BREAKER);
    let before = house.rss_kib();
    for _ in 0..20 {
        let (status, text) = get(&house, "http", "/flood").await;
        assert!(status == 500 || text.starts_with("cut"), "{status} {}", text.len());
    }
    house.wait_for_log("the plugin trapped");
    assert!(house.rss_kib() < before + (64 << 10), "{} after {before} KiB", house.rss_kib());
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_body_cuts_it() {
    let house = house("", NO_BREAKER);
    for (host, path) in [("http", "/panic-in-body"), ("three", "/trap-in-body")] {
        let (_, text) = get(&house, host, path).await;
        assert!(text.starts_with("cut"), "{host}: {text}");
        house.wait_for_log("the plugin trapped");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off_and_its_guest_ends() {
    let house = house("idle_timeout = \"300ms\"", NO_BREAKER);
    let before = house.rss_kib();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: http\r\n\r\n").unwrap();
        streams.push(stream);
    }
    wait_until_idle(&house, "http");
    assert!(house.rss_kib() < before + (160 << 10), "{} after {before} KiB", house.rss_kib());
    assert_neighbour_answers(&house).await;
}

#[tokio::test]
async fn a_guest_that_reads_after_its_client_has_gone_comes_to_an_end() {
    let house = house("", &format!("limits = {{ cpu = \"300ms\" }}\n{NO_BREAKER}"));
    // 0: it gives up at the first error; 1: it tries for ever, and has only its CPU time for it.
    for stubborn in [0, 1] {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        let head = format!(
            "POST /read?{stubborn} HTTP/1.1\r\nhost: http\r\ncontent-length: 1000\r\n\r\nabc"
        );
        stream.write_all(head.as_bytes()).unwrap();
        while house.api("/v1/plugins/http")["version"]["running"] != 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(stream);
        wait_until_idle(&house, "http");
    }
    // And one that goes on writing to nobody.
    let mut stream = TcpStream::connect(house.address()).unwrap();
    stream.write_all(b"GET /deaf HTTP/1.1\r\nhost: http\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    wait_until_idle(&house, "http");
}

#[tokio::test]
async fn lines_without_number_are_cut_to_the_quota_and_the_log_names_the_knob() {
    let house =
        house("", &format!("limits = {{ log = 50, cpu = \"10m\", wall = \"10m\" }}\n{NO_BREAKER}"));
    assert_eq!(get(&house, "code", "/log?300000").await, (StatusCode::OK, "printed".into()));
    house.wait_for_log("limits.log");
    let lines = house.log().matches("of 300000").count();
    assert!((50..50_000).contains(&lines), "{lines} lines");
    assert_neighbour_answers(&house).await;
}

#[tokio::test]
async fn failures_beyond_the_quota_are_counted_and_not_logged() {
    let house = house("", &format!("limits = {{ log = 5 }}\n{NO_BREAKER}"));
    let mut traps = 0;
    // Until one second has seen more than five.
    while !house.log().contains("the rest of them is only counted (limits.log)") {
        assert_eq!(get(&house, "code", "/trap").await.0, 500);
        traps += 1;
        assert!(traps < 2000, "{}", house.log());
    }
    assert_eq!(house.api("/v1/plugins/code")["version"]["failures"], traps);
}

#[tokio::test]
async fn a_storm_of_outgoing_requests_is_denied_to_the_guest() {
    let house = house("", NO_BREAKER);
    let (status, text) = get(&house, "http", "/storm?2000").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "2000"));
    assert_neighbour_answers(&house).await;
}

#[tokio::test]
async fn handles_without_end_are_a_trap() {
    let house = house("", NO_BREAKER);
    assert_eq!(get(&house, "http", "/handles").await.0, 500);
    house.wait_for_log("the plugin trapped");
}

#[tokio::test]
async fn deep_recursion_is_a_trap() {
    let house = house("", NO_BREAKER);
    assert_eq!(get(&house, "code", "/recurse").await.0, 500);
    house.wait_for_log("the plugin trapped");
}

#[tokio::test]
async fn a_loop_within_long_instructions_is_504() {
    let house = house("", &format!("limits = {{ cpu = \"200ms\" }}\n{NO_BREAKER}"));
    assert_eq!(get(&house, "code", "/fill").await.0, 504);
    house.wait_for_log("limits.cpu");
}

#[tokio::test]
async fn a_guest_of_0_3_meets_the_same_limits() {
    let limits = format!("limits = {{ cpu = \"100ms\", wall = \"1s\" }}\n{NO_BREAKER}");
    let house = house("", &limits);
    assert_eq!(get(&house, "three", "/trap").await.0, 500);
    house.wait_for_log("a secret that must not leave the house");
    assert_eq!(get(&house, "three", "/never").await.0, 504);
    house.wait_for_log("limits.wall");
    assert_eq!(get(&house, "three", "/spin").await.0, 504);
    house.wait_for_log("limits.");
    assert_eq!(get(&house, "three", "/").await.1, "hello from wasip3");
}

#[tokio::test]
async fn all_instances_of_a_plugin_together_get_half_of_the_memory() {
    let table = |name: &str, component: &str, rest: &str| {
        plugin(name, &guest(component), &format!("routes = [\"http://{name}/*\"]\n{rest}"))
    };
    let limits = format!("limits = {{ memory = \"1GiB\" }}\n{NO_BREAKER}");
    let house = House::start(
        &("[engine]\nmemory = \"64MiB\"\n".to_owned()
            + &table("code", "hostile", &limits)
            + &table("neighbour", "wit_bindgen", "")),
    );
    assert_eq!(get(&house, "code", "/bomb").await.0, 500);
    house.wait_for_log("engine.memory");
    assert_neighbour_answers(&house).await;
}

/// The promise of the house: eight of them without pause, whatever they do, and the neighbour is answered.
#[tokio::test]
async fn a_neighbour_is_answered_beside_eight_of_each_kind_without_pause() {
    let limits = "limits = { cpu = \"200ms\", wall = \"1s\", memory = \"32MiB\" }";
    let house = Arc::new(house("idle_timeout = \"1s\"", &format!("{limits}\n{NO_BREAKER}")));
    let before = house.rss_kib();
    for (host, path) in [
        ("code", "/spin"),
        ("code", "/fill"),
        ("code", "/bomb"),
        ("code", "/recurse"),
        ("code", "/trap"),
        ("code", "/never"),
        ("code", "/log?1000000"),
        ("http", "/headers?10000"),
        ("http", "/endless"),
        ("http", "/flood"),
        ("http", "/panic-in-body"),
        ("http", "/storm?500"),
        ("http", "/handles"),
        ("three", "/spin"),
        ("three", "/trap"),
        ("three", "/trap-in-body"),
    ] {
        let stop = Arc::new(AtomicBool::new(false));
        let runs: Vec<_> = (0..8)
            .map(|_| {
                let (house, stop) = (house.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut runs = 0;
                    while !stop.load(Relaxed) || runs == 0 {
                        get(&house, host, path).await;
                        runs += 1;
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            assert_neighbour_answers(&house).await;
        }
        stop.store(true, Relaxed);
        for run in runs {
            run.await.unwrap();
        }
    }
    // What all of them together left behind: kept pages of pooled instances, and no more.
    let after = house.rss_kib();
    assert!(after < before + (300 << 10), "{after} KiB after {before} KiB");
}
