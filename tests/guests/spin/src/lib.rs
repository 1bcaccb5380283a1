//! With Spin's SDK, which makes components for wasi:http 0.3.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let (status, text) = match request.uri().path() {
        "/" => (200, "hello from spin"),
        _ => (404, ""),
    };
    Response::builder().status(status).body(text.to_string())
}
