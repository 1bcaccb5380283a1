//! A server on the other side of `fetch`: what the test scripts, and what it saw.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A body that a script gives.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = Arc<dyn Fn(Seen, Incoming) -> Answer + Send + Sync>;

/// The ways to send pieces of answers.
pub type Senders = Arc<Mutex<Vec<tokio::sync::mpsc::Sender<Bytes>>>>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Which HTTP.
    pub version: hyper::Version,
    /// Host and port, whichever way they came.
    pub authority: String,
    /// All fields, in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first field of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// A server that runs until it is dropped.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Starts one that answers by a script.
    pub async fn start<F, A>(script: F) -> Self
    where
        F: Fn(Seen, Incoming) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_with(None, script).await
    }

    /// Starts one that answers each request with events that the test sends, and the ways to send them, the
    /// last one for the last request.
    pub async fn start_events() -> (Self, Senders) {
        let senders = Senders::default();
        let upstream = Self::start({
            let senders = senders.clone();
            move |_, _| {
                let (sender, response) = channel("text/event-stream");
                senders.lock().unwrap().push(sender);
                async { response }
            }
        })
        .await;
        (upstream, senders)
    }

    /// Starts one with TLS and both versions of HTTP; gives the certificate (PEM) that it has for a name.
    pub async fn start_tls<F, A>(name: &str, script: F) -> (Self, String)
    where
        F: Fn(Seen, Incoming) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (Self::start_with(Some(acceptor), script).await, made.cert.pem())
    }

    async fn start_with<F, A>(tls: Option<tokio_rustls::TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Seen, Incoming) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let script: Script = Arc::new(move |seen, body| Box::pin(script(seen, body)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let task = tokio::spawn({
            let (seen, connections) = (seen.clone(), connections.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, SeqCst);
                    _ = stream.set_nodelay(true);
                    let (seen, script, tls) = (seen.clone(), script.clone(), tls.clone());
                    tokio::spawn(async move {
                        let service = hyper::service::service_fn(move |request| {
                            serve(request, seen.clone(), script.clone())
                        });
                        let builder =
                            hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                        match tls {
                            None => {
                                _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                            Some(tls) => {
                                let Ok(stream) = tls.accept(stream).await else { return };
                                _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    });
                }
            }
        });
        Self { address, seen, connections, task }
    }

    /// `http://127.0.0.1:…`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request.
    #[must_use]
    pub fn last(&self) -> Seen {
        self.seen().last().cloned().expect("no request came")
    }

    /// Connections that were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn serve(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let fields = parts.headers.iter();
    let one = Seen {
        method: parts.method.to_string(),
        version: parts.version,
        authority: match parts.uri.authority() {
            Some(authority) => authority.to_string(),
            None => String::from_utf8_lossy(
                parts.headers.get("host").map(|host| host.as_bytes()).unwrap_or_default(),
            )
            .into_owned(),
        },
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: fields
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
    };
    seen.lock().unwrap().push(one.clone());
    Ok(script(one, body).await)
}

/// A response of one piece.
#[must_use]
pub fn answer(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body = http_body_util::Full::new(body.into()).map_err(|never| match never {});
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(body.boxed_unsync())
        .unwrap()
}

/// A response whose pieces come from a stream; an error cuts it.
pub fn streaming<S>(status: u16, kind: &str, pieces: S) -> Response<Body>
where
    S: futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(body.boxed_unsync())
        .unwrap()
}

/// A response whose pieces come when the test sends them.
#[must_use]
pub fn channel(kind: &str) -> (tokio::sync::mpsc::Sender<Bytes>, Response<Body>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok(piece), receiver))
    });
    (sender, streaming(200, kind, pieces))
}

/// Waits until something is so.
///
/// # Panics
/// It does not become so for a long time.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < crate::PATIENCE, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
