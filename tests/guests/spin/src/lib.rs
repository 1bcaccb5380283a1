//! With Spin's SDK, which makes components for wasi:http 0.3.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use spin_sdk::http::{Error, IntoResponse, Request, StatusCode};
use spin_sdk::http_service;
use spin_sdk::wasip3::clocks::monotonic_clock::wait_for;
use spin_sdk::wasip3::http::types::Response;

#[http_service]
async fn handle(request: Request) -> Result<Response, Error> {
    let response = match request.uri().path() {
        "/" => "hello from spin".into_response()?,
        "/echo" => (StatusCode::OK, request.into_body()).into_response()?,
        "/stream" => {
            let ticks = stream::iter(0..5).then(async |number| {
                wait_for(50_000_000).await;
                Ok::<_, Error>(Frame::data(Bytes::from(format!("tick {number}\n"))))
            });
            (StatusCode::OK, StreamBody::new(Box::pin(ticks))).into_response()?
        }
        _ => StatusCode::NOT_FOUND.into_response()?,
    };
    Ok(response)
}
