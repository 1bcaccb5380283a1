//! What the house is measured against: the same HTTP server, on one core, without wasm.

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Either, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// As long as the answer of the test guest.
const HELLO: Bytes = Bytes::from_static(b"hello from wit-bindgen");

type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;

/// Pieces of an answer that comes as fast as it can.
pub const TOKENS: usize = 20_000;
/// Between the pieces of an answer that comes as fast as a language model writes.
pub const PACE: Duration = Duration::from_millis(50);

/// Bytes of the asset that everybody serves.
pub const ASSET: usize = 10 << 10;

/// The asset.
pub fn asset() -> Vec<u8> {
    b"<!doctype html> "[..].iter().copied().cycle().take(ASSET).collect()
}

/// Serves until it is killed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let asset = Bytes::from(asset());
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_headers(100);
        let builder = std::sync::Arc::new(builder);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (builder, asset) = (builder.clone(), asset.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let asset = asset.clone();
                    async move { Ok::<_, Infallible>(answer(&request, asset)) }
                });
                _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn answer<B>(request: &Request<B>, asset: Bytes) -> Response<Body> {
    match request.uri().path() {
        "/asset.html" => {
            let mut response = Response::new(Either::Left(Full::new(asset)));
            let html = hyper::header::HeaderValue::from_static("text/html");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, html);
            response
        }
        "/events" => Response::new(Either::Right(events())),
        "/burst/chat/completions" => chat(futures::stream::iter(0..TOKENS).map(|_| ())),
        "/paced/chat/completions" => {
            let ticks = tokio::time::interval(PACE);
            let ticks = futures::stream::unfold(ticks, |mut ticks| async move {
                ticks.tick().await;
                Some(((), ticks))
            });
            chat(ticks)
        }
        _ => Response::new(Either::Left(Full::new(HELLO))),
    }
}

/// An answer of a language model, a piece of text at each of these moments. A piece says when it was sent, in
/// nanoseconds.
fn chat(moments: impl futures::Stream<Item = ()> + Send + 'static) -> Response<Body> {
    let pieces = moments.map(|()| {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos());
        let piece = format!(
            "data: {{\"id\":\"chatcmpl-0123456789abcdefghijklmnop\",\"object\":\"chat.completion.chunk\",\
             \"created\":1,\"model\":\"mock\",\"sent\":{now},\"choices\":[{{\"index\":0,\"delta\":\
             {{\"content\":\" word\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
        );
        Ok(Frame::data(Bytes::from(piece)))
    });
    let mut response = Response::new(Either::Right(StreamBody::new(pieces).boxed_unsync()));
    let events = hyper::header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, events);
    response
}

/// An event each millisecond, which says when it was sent, in nanoseconds.
fn events() -> UnsyncBoxBody<Bytes, Infallible> {
    let ticks = futures::stream::unfold(
        tokio::time::interval(Duration::from_millis(1)),
        |mut interval| async move {
            interval.tick().await;
            let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos());
            Some((Bytes::from(format!("data: {now}\n\n")), interval))
        },
    );
    StreamBody::new(ticks.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}
