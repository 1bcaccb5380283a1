//! The way out of the house: names, addresses, connections.
//!
//! Owns resolving, the check of what was resolved, and the connection to exactly that. The name is never
//! resolved a second time: between a check and a second look, DNS may answer something else (rebinding).
//! It never reads proxies from the environment: a proxy would resolve for itself.

use super::policy::{self, Class};
use super::told::Told;
use crate::config::fetch::{Fetch, FetchGrant, Host, Target};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one address is waited for before the next is tried as well (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Every address is one that the grant does not reach; the operator's log has which.
    #[error("no address of the destination is allowed")]
    Denied,
    /// The name has no address.
    #[error("the name can't be resolved: {0}")]
    Dns(String),
    /// Nobody listens, or the way there is barred.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no connection within {0:?} (limits.outbound_connect)")]
    Timeout(Duration),
    /// The certificate is not one that is trusted.
    #[error("the certificate is not trusted: {0}")]
    Certificate(String),
    /// TLS failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
}

/// Finds addresses of a name.
pub trait Resolve: Send + Sync {
    /// All addresses that it has now.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// What all plugins share on their way out.
pub struct Network {
    resolver: Box<dyn Resolve>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
    roots: Option<std::path::PathBuf>,
    tls: OnceLock<Result<TlsConnector, String>>,
    /// Where the house itself listens.
    doors: OnceLock<Vec<SocketAddr>>,
}

impl Network {
    /// As `[fetch]` says.
    #[must_use]
    pub fn new(fetch: &Fetch) -> Arc<Self> {
        Self::with_resolver(fetch, Box::new(System))
    }

    /// The same with another resolver than the system's.
    #[must_use]
    pub fn with_resolver(fetch: &Fetch, resolver: Box<dyn Resolve>) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            hosts: fetch.hosts.clone(),
            roots: fetch.roots.clone(),
            tls: OnceLock::new(),
            doors: OnceLock::new(),
        })
    }

    /// Tells where the house listens: no plugin reaches it by a grant that doesn't say `allow_private`.
    pub fn set_doors(&self, doors: Vec<SocketAddr>) {
        // The doors are opened once.
        _ = self.doors.set(doors);
    }

    /// Reads the roots; done when a plugin is loaded, so that no request waits for it.
    ///
    /// # Errors
    /// There are none, or they can't be read.
    pub(super) fn tls(&self) -> Result<&TlsConnector, String> {
        let made = self.tls.get_or_init(|| connector(self.roots.as_deref()));
        made.as_ref().map_err(Clone::clone)
    }

    fn is_door(&self, address: SocketAddr) -> bool {
        self.doors.get().into_iter().flatten().any(|door| {
            let everywhere = door.ip().is_unspecified();
            let here = || address.ip().is_loopback() || policy::is_own(address.ip());
            door.port() == address.port() && (door.ip() == address.ip() || (everywhere && here()))
        })
    }

    /// Whether a connection may go there; else why not.
    fn judge(&self, address: SocketAddr, grant: &FetchGrant) -> Result<(), String> {
        let class = policy::class_here(address.ip());
        if !class.is_allowed(grant.may_be_private()) {
            return Err(class.to_string());
        }
        if !grant.allow_private && class != Class::Public && self.is_door(address) {
            return Err("the house's own door".to_owned());
        }
        Ok(())
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, ConnectError> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let found = self.resolver.resolve(name).await;
        let mut found = found.map_err(|error| ConnectError::Dns(error.to_string()))?;
        found.dedup();
        if found.is_empty() { Err(ConnectError::Dns("no address".to_owned())) } else { Ok(found) }
    }

    /// Connects for a grant.
    pub(super) async fn connect(
        &self,
        told: &Told,
        target: &Target,
        grant: &FetchGrant,
        limit: Duration,
    ) -> Result<Stream, ConnectError> {
        let work = async {
            let addresses = self.resolve(&target.host).await?;
            let mut allowed = Vec::new();
            let mut denied = Vec::new();
            for address in addresses {
                let address = SocketAddr::new(address, target.port);
                match self.judge(address, grant) {
                    Ok(()) => allowed.push(address),
                    Err(class) => denied.push(format!("{} is {class}", address.ip())),
                }
            }
            if !denied.is_empty() {
                let what = if allowed.is_empty() {
                    "an outbound request was denied by its address"
                } else {
                    "addresses of an outbound request were left out"
                };
                told.say(|plugin| {
                    tracing::warn!(
                        plugin,
                        destination = %target,
                        grant = %grant.url,
                        "{what}: {}. If that is meant, grant it with {{ url = \"{target}\", \
                         allow_private = true }} in [plugins.{plugin}]",
                        denied.join(", "),
                    );
                });
            }
            if allowed.is_empty() {
                return Err(ConnectError::Denied);
            }
            allowed.truncate(MOST_ADDRESSES);
            let stream = first_of(allowed).await?;
            if !target.tls {
                return Ok(Stream::Plain(stream));
            }
            let tls = self.tls().map_err(ConnectError::Certificate)?;
            let name = match &target.host {
                Host::Address(address) => ServerName::from(*address),
                Host::Name(name) => ServerName::try_from(name.clone())
                    .map_err(|error| ConnectError::Tls(error.to_string()))?,
            };
            let stream = tls.connect(name, stream).await.map_err(|error| tls_error(&error))?;
            Ok(Stream::Tls(Box::new(stream)))
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(ConnectError::Timeout(limit)))
    }
}

fn tls_error(error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            ConnectError::Certificate(error.to_string())
        }
        _ => ConnectError::Tls(error.to_string()),
    }
}

/// Connects to whichever answers first; each next address gets its chance after a moment, or as soon as
/// one has failed.
async fn first_of(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = ConnectError::Unreachable("no address".to_owned());
    attempts.extend(waiting.next().map(TcpStream::connect));
    loop {
        let next = tokio::select! {
            done = attempts.next() => match done {
                Some(Ok(stream)) => {
                    _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => {
                    last = ConnectError::Unreachable(error.to_string());
                    waiting.next()
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => waiting.next(),
        };
        attempts.extend(next.map(TcpStream::connect));
    }
}

fn connector(roots: Option<&Path>) -> Result<TlsConnector, String> {
    let mut store = rustls::RootCertStore::empty();
    let found: Vec<CertificateDer<'static>> = match roots {
        Some(path) => {
            let unreadable = |error: rustls_pki_types::pem::Error| {
                format!(
                    "the certificates in {} can't be read: {error} ([fetch] roots)",
                    path.display()
                )
            };
            CertificateDer::pem_file_iter(path)
                .map_err(unreadable)?
                .collect::<Result<_, _>>()
                .map_err(unreadable)?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(found);
    if store.is_empty() {
        return Err(
            "no certificates are trusted on this system: install ca-certificates, or set `roots` in [fetch]"
                .to_owned(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection to a server.
pub(super) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Self::Tls(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Connects for one destination of one plugin.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<Route>);

/// What a connector needs to know.
pub(super) struct Route {
    pub(super) network: Arc<Network>,
    pub(super) told: Told,
    pub(super) grant: FetchGrant,
    pub(super) limit: Duration,
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let route = self.0.clone();
        Box::pin(async move {
            let target = Target::of(&uri).map_err(|why| ConnectError::Dns(why.to_owned()))?;
            let stream =
                route.network.connect(&route.told, &target, &route.grant, route.limit).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

#[cfg(test)]
#[path = "network/tests.rs"]
mod tests;
