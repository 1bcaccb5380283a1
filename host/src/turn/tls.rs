//! The certificate of the relay's TLS listeners.
//!
//! Certificates are short-lived, and whoever renews them replaces the files: they are read again when they have
//! changed, without a restart. A file that can't be read leaves the last good certificate in use, and says so.

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// A certificate that is kept fresh.
#[derive(Clone)]
pub(super) struct Certificate(Arc<Inner>);

struct Inner {
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They can't be read, or do not belong together: as a sentence for the operator.
    pub(super) fn open(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let current = ArcSwap::new(read(chain, key)?);
        Ok(Self(Arc::new(Inner { chain: chain.to_owned(), key: key.to_owned(), current })))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.current.load_full())
    }

    /// Reads the files again whenever they have changed.
    pub(super) async fn keep_fresh(self, end: CancellationToken) {
        let mut seen = self.changed();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = end.cancelled() => return,
            }
            let now = self.changed();
            if now == seen {
                continue;
            }
            match read(&self.0.chain, &self.0.key) {
                Ok(config) => {
                    self.0.current.store(config);
                    seen = now;
                    tracing::info!("the relay has a new certificate");
                }
                // Tried again at the next look: perhaps only one of the files is new yet.
                Err(error) => tracing::warn!("the relay keeps its certificate: {error:#}"),
            }
        }
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.0.chain, &self.0.key]
            .map(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
    }
}

fn read(chain: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let shown = (chain.display(), key.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("`certificate` in [turn]: {} can't be read", shown.0))?;
    if certificates.is_empty() {
        bail!("`certificate` in [turn]: {} has no certificate", shown.0);
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("`key` in [turn]: {} can't be read", shown.1))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| {
            format!(
                "`certificate` and `key` in [turn] do not belong together: {} and {}",
                shown.0, shown.1
            )
        })?;
    Ok(Arc::new(config))
}
