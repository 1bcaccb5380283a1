//! The cache as the server uses it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use http::Request;
use http_body_util::BodyExt;
use std::sync::atomic::AtomicUsize;

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().method(method).uri(path).header("host", "h");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn response(headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
    let mut builder = Response::builder();
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body)).unwrap()
}

async fn read(response: Response<Body>) -> (u16, HeaderMap, Bytes) {
    let (parts, body) = response.into_parts();
    (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
}

use bytes::Bytes;

/// One request through the cache, with this answer of the plugin; says whether the plugin was asked.
async fn ask(
    partition: &Partition,
    mut request: Parts,
    plugin: impl FnOnce(&Parts) -> Response<Body>,
) -> (bool, (u16, HeaderMap, Bytes)) {
    match partition.start(&mut request) {
        Decision::Answer(response) => (false, read(response).await),
        Decision::Forward(recorder) => {
            let answer = plugin(&request);
            (true, read(recorder.record(answer)).await)
        }
        Decision::Bypass => (true, read(plugin(&request)).await),
        Decision::Wait(_) => panic!("nobody else is asking"),
    }
}

fn cache() -> (Arc<ResponseCache>, Partition) {
    let cache = ResponseCache::new(32 << 20, 1 << 20);
    let partition = cache.partition();
    (cache, partition)
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"v\"")];

#[tokio::test]
async fn a_fresh_response_is_answered_without_the_plugin() {
    let (_, p) = cache();
    let (asked, _) = ask(&p, request("GET", "/a?x", &[]), |_| response(FRESH, "hello")).await;
    assert!(asked);
    let (asked, (status, headers, body)) =
        ask(&p, request("GET", "/a?x", &[]), |_| panic!("asked")).await;
    assert!(!asked);
    assert_eq!((status, &body[..]), (200, &b"hello"[..]));
    assert_eq!(headers["cache-status"], "guesthouse; hit");
    assert!(headers.contains_key("age"));
    let (asked, _) = ask(&p, request("GET", "/a?y", &[]), |_| response(FRESH, "other")).await;
    assert!(asked, "another query is another resource");
}

#[tokio::test]
async fn conditions_ranges_and_head_are_answered_from_what_is_kept() {
    let (_, p) = cache();
    ask(&p, request("GET", "/a", &[]), |_| response(FRESH, "hello")).await;
    let never = |_: &Parts| -> Response<Body> { panic!("asked") };
    let (_, (status, _, body)) =
        ask(&p, request("GET", "/a", &[("if-none-match", "\"v\"")]), never).await;
    assert_eq!((status, body.len()), (304, 0));
    let (_, (status, headers, body)) =
        ask(&p, request("GET", "/a", &[("range", "bytes=1-2")]), never).await;
    assert_eq!((status, &body[..]), (206, &b"el"[..]));
    assert_eq!(headers["content-range"], "bytes 1-2/5");
    let (_, (status, ..)) = ask(&p, request("GET", "/a", &[("range", "bytes=9-")]), never).await;
    assert_eq!(status, 416);
    let (_, (status, headers, _)) = ask(&p, request("HEAD", "/a", &[]), never).await;
    assert_eq!((status, &headers["content-length"]), (200, &HeaderValue::from_static("5")));
}

#[tokio::test]
async fn the_targeted_field_counts_here_and_is_not_shown() {
    let (_, p) = cache();
    let headers = [
        ("cache-control", "no-cache"),
        ("etag", "\"v\""),
        ("guesthouse-cache-control", "max-age=9"),
    ];
    let (_, (_, shown, _)) = ask(&p, request("GET", "/a", &[]), |_| response(&headers, "x")).await;
    assert!(!shown.contains_key("guesthouse-cache-control"));
    let reload = request("GET", "/a", &[("cache-control", "no-cache")]);
    let (asked, (_, shown, _)) = ask(&p, reload, |_| panic!("asked")).await;
    assert!(!asked && !shown.contains_key("guesthouse-cache-control"));
    assert_eq!(shown["cache-control"], "no-cache");
}

#[tokio::test]
async fn a_stale_response_is_asked_about_and_freshened() {
    let (_, p) = cache();
    let stale = [("etag", "\"v\"")];
    ask(&p, request("GET", "/a", &[]), |_| response(&stale, "hello")).await;
    let (asked, (status, headers, body)) = ask(&p, request("GET", "/a", &[]), |request| {
        assert_eq!(request.headers["if-none-match"], "\"v\"");
        let mut answer = response(&[("cache-control", "max-age=9")], "");
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    })
    .await;
    assert!(asked);
    assert_eq!((status, &body[..]), (200, &b"hello"[..]));
    assert_eq!(headers["cache-control"], "max-age=9");
    assert!(!ask(&p, request("GET", "/a", &[]), |_| panic!("asked")).await.0);
}

#[tokio::test]
async fn variants_are_kept_apart() {
    let (_, p) = cache();
    let headers = [("cache-control", "max-age=60"), ("vary", "Accept-Encoding")];
    let with = |encoding| request("GET", "/a", &[("accept-encoding", encoding)]);
    ask(&p, with("br"), |_| response(&headers, "brotli")).await;
    ask(&p, with("gzip"), |_| response(&headers, "gzip")).await;
    let (_, (_, _, body)) = ask(&p, with("br"), |_| panic!("asked")).await;
    assert_eq!(&body[..], b"brotli");
    assert!(ask(&p, request("GET", "/a", &[]), |_| response(&headers, "plain")).await.0);
}

#[tokio::test]
async fn credentials_and_cookies_are_never_shared() {
    let (_, p) = cache();
    for _ in 0..2 {
        let with = request("GET", "/a", &[("authorization", "Bearer x")]);
        assert!(ask(&p, with, |_| response(FRESH, "mine")).await.0);
        let cookie = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
        assert!(ask(&p, request("GET", "/b", &[]), |_| response(&cookie, "mine")).await.0);
    }
}

#[tokio::test]
async fn a_change_of_the_resource_drops_what_is_kept() {
    let (_, p) = cache();
    ask(&p, request("GET", "/a", &[]), |_| response(FRESH, "old")).await;
    ask(&p, request("PUT", "/a", &[]), |_| response(&[], "")).await;
    assert!(ask(&p, request("GET", "/a", &[]), |_| response(FRESH, "new")).await.0);
}

#[tokio::test]
async fn after_a_purge_nothing_is_found_not_even_what_was_on_its_way() {
    let (cache, p) = cache();
    ask(&p, request("GET", "/a", &[]), |_| response(FRESH, "old")).await;
    let mut late = request("GET", "/b", &[]);
    let Decision::Forward(recorder) = p.start(&mut late) else { panic!("not forwarded") };
    p.purge();
    read(recorder.record(response(FRESH, "late"))).await;
    assert!(ask(&p, request("GET", "/a", &[]), |_| response(FRESH, "new")).await.0);
    assert!(ask(&p, request("GET", "/b", &[]), |_| response(FRESH, "new")).await.0);
    drop(p);
    assert!(cache.stats().entries <= 1);
}

#[tokio::test]
async fn a_hundred_requests_at_once_ask_the_plugin_once() {
    let (_, p) = cache();
    let p = Arc::new(p);
    let asked = Arc::new(AtomicUsize::new(0));
    let one = |p: Arc<Partition>, asked: Arc<AtomicUsize>| async move {
        let mut request = request("GET", "/a", &[]);
        loop {
            match p.start(&mut request) {
                Decision::Wait(other) => other.await,
                Decision::Answer(response) => return read(response).await.2,
                Decision::Forward(recorder) => {
                    asked.fetch_add(1, Relaxed);
                    tokio::task::yield_now().await;
                    return read(recorder.record(response(FRESH, "once"))).await.2;
                }
                Decision::Bypass => panic!("bypassed"),
            }
        }
    };
    let all = futures::future::join_all((0..100).map(|_| one(p.clone(), asked.clone()))).await;
    assert!(all.iter().all(|body| &body[..] == b"once"));
    assert_eq!(asked.load(Relaxed), 1);
}

#[tokio::test]
async fn waiters_go_on_when_the_first_gives_up() {
    let (_, p) = cache();
    let Decision::Forward(first) = p.start(&mut request("GET", "/a", &[])) else { panic!() };
    let Decision::Wait(waiting) = p.start(&mut request("GET", "/a", &[])) else { panic!() };
    drop(first);
    waiting.await;
    assert!(matches!(p.start(&mut request("GET", "/a", &[])), Decision::Forward(_)));
}

#[tokio::test]
async fn what_could_not_be_kept_is_asked_for_side_by_side() {
    let (_, p) = cache();
    ask(&p, request("GET", "/a", &[]), |_| response(&[], "never kept")).await;
    let Decision::Forward(_first) = p.start(&mut request("GET", "/a", &[])) else { panic!() };
    assert!(matches!(p.start(&mut request("GET", "/a", &[])), Decision::Forward(_)));
}

#[tokio::test]
async fn the_byte_budget_holds() {
    let cache = ResponseCache::new(2 << 20, 1 << 20);
    let p = cache.partition();
    for number in 0..2000 {
        let body = Body::full(vec![b'x'; 10_000]);
        let path = format!("/{number}");
        ask(&p, request("GET", &path, &[]), |_| response(FRESH, "").map(|_| body)).await;
        assert!(cache.stats().bytes <= 2 << 20);
    }
    assert!(cache.stats().entries > 100);
}

#[tokio::test]
async fn a_body_that_is_shorter_than_it_says_is_not_kept() {
    let (_, p) = cache();
    let headers = [("cache-control", "max-age=60"), ("content-length", "99")];
    for _ in 0..2 {
        assert!(ask(&p, request("GET", "/a", &[]), |_| response(&headers, "short")).await.0);
    }
}
