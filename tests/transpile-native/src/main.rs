//! `transpile-native ADDRESS`: the transpile plugin's own pipeline as native code, on one thread.
//!
//! Built by `cargo xtask bench` alone, in a folder of its own: nothing else of the workspace has oxc in native code.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use transpile::{ImportMap, Options, transpile};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("an address is missing")?;
    let address: SocketAddr = address.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = hyper::service::service_fn(answer);
                _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let mut options = Options::default();
    options.read_query(request.uri().query().unwrap_or_default()).map_err(anyhow::Error::msg)?;
    let body = request.into_body().collect().await?.to_bytes();
    let source = std::str::from_utf8(&body)?;
    let (status, text) = match transpile(source, &options, &ImportMap::default()) {
        Ok(output) => (200, output.code),
        Err(wrong) => (422, format!("{wrong:?}")),
    };
    Ok(Response::builder().status(status).body(Full::new(text.into()))?)
}
