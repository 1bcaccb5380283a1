//! Looking at a plugin before anything of it runs.
//!
//! Owns the questions that can be answered from the component's bytes and the plugin's table: is it a
//! component, is it the one that was meant, was it granted what it imports?

use super::inspect;
use crate::capabilities::{Grant, grant_for};
use crate::config::{ConfigErrors, Plugin};
use crate::engine::artifact::digest;
use crate::engine::{Failure, LoadError};
use crate::routing::Conflict;
use std::path::PathBuf;

/// Why a plugin could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file can't be read.
    #[error("plugin `{plugin}`: the component {path} can't be read: {source}")]
    Read {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no component.
    #[error("plugin `{plugin}`: {path}: {reason}")]
    NotAComponent {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What it is instead, and the mend.
        reason: String,
    },
    /// The file is another than the configuration means.
    #[error(
        "plugin `{plugin}`: {path} has the digest sha256:{found}, and its `digest` in [plugins.{plugin}] \
         says sha256:{expected}"
    )]
    Digest {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What the configuration says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// It imports what it was not granted.
    #[error(
        "plugin `{plugin}` imports {import}, which it was not granted. To grant it, add `{example}` to \
         [plugins.{plugin}]"
    )]
    NotGranted {
        /// The plugin.
        plugin: String,
        /// The interface.
        import: String,
        /// A line of configuration.
        example: &'static str,
    },
    /// It imports what this host has not.
    #[error(
        "plugin `{plugin}` imports {import}, which this host does not have; wit/plugin.wit lists what it has"
    )]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The interface.
        import: String,
    },
    /// It does not export a handler.
    #[error(
        "plugin `{plugin}` exports neither wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3, so \
         there is nothing to route requests to"
    )]
    NoHandler {
        /// The plugin.
        plugin: String,
    },
    /// It is to verify callers and can't.
    #[error(
        "plugin `{plugin}` is named by [auth], and does not export guesthouse:auth/verifier@0.1.0: name \
         another, or see wit/auth.wit for what it must export"
    )]
    NoVerifier {
        /// The plugin.
        plugin: String,
    },
    /// The engine refused it.
    #[error("plugin `{plugin}`: {source}")]
    Load {
        /// The plugin.
        plugin: String,
        /// Why.
        source: LoadError,
    },
    /// The house could not keep its component.
    #[error("plugin `{plugin}`: its component can't be kept in {path}: {source}")]
    Keep {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No instance of it can be made.
    #[error("plugin `{plugin}` failed its check: {failure}")]
    Check {
        /// The plugin.
        plugin: String,
        /// Why.
        failure: Failure,
    },
    /// It is there, and says that it is not well.
    #[error(
        "plugin `{plugin}` answers {status} to its `health` path {path}; less than 500 is well"
    )]
    Unhealthy {
        /// The plugin.
        plugin: String,
        /// What it was asked.
        path: String,
        /// What it answered.
        status: u16,
    },
    /// What is kept of a version can't be used.
    #[error("version {number} of plugin `{plugin}` can't be used any more: {reason}")]
    Kept {
        /// The plugin.
        plugin: String,
        /// The version.
        number: u64,
        /// Why.
        reason: String,
    },
    /// A secret is missing.
    #[error("{0}")]
    Secrets(ConfigErrors),
    /// Two plugins want the same route.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Reads a plugin's component and checks it, as the verifier of the house if it has that name. Gives the bytes
/// and their digest.
///
/// # Errors
/// See [`PluginError`].
pub(super) fn read(
    plugin: &Plugin,
    verifier: Option<&str>,
) -> Result<(Vec<u8>, String), PluginError> {
    let name = || plugin.name.clone();
    let path = || plugin.component.clone();
    let unreadable = |source| PluginError::Read { plugin: name(), path: path(), source };
    let size = std::fs::metadata(&plugin.component).map_err(unreadable)?.len();
    if size > inspect::MAX_COMPONENT {
        let reason = inspect::InspectError::TooLarge(size).to_string();
        return Err(PluginError::NotAComponent { plugin: name(), path: path(), reason });
    }
    let wasm = std::fs::read(&plugin.component).map_err(unreadable)?;
    let found = digest(&wasm);
    if let Some(expected) = plugin.digest.clone().filter(|expected| *expected != found) {
        return Err(PluginError::Digest { plugin: name(), path: path(), expected, found });
    }
    check(plugin, &wasm, verifier == Some(plugin.name.as_str()))?;
    Ok((wasm, found))
}

/// Looks at a component without compiling it: is it one, and was it granted what it imports?
fn check(plugin: &Plugin, wasm: &[u8], is_verifier: bool) -> Result<(), PluginError> {
    let name = || plugin.name.clone();
    let report = inspect::inspect(wasm).map_err(|error| PluginError::NotAComponent {
        plugin: name(),
        path: plugin.component.clone(),
        reason: error.to_string(),
    })?;
    for import in report.imports {
        let granted = match grant_for(&import) {
            Grant::Free => continue,
            Grant::Unknown => return Err(PluginError::Unknown { plugin: name(), import }),
            Grant::Needs { key: "kv", .. } => !plugin.kv.is_empty(),
            Grant::Needs { key: "secrets", .. } => !plugin.secrets.is_empty(),
            Grant::Needs { key: "peers", .. } => !plugin.peers.is_empty(),
            Grant::Needs { key: "rooms", .. } => plugin.rooms.is_some(),
            Grant::Needs { .. } => false,
        };
        if let Grant::Needs { example, .. } = grant_for(&import)
            && !granted
        {
            return Err(PluginError::NotGranted { plugin: name(), import, example });
        }
    }
    let exports = |name: &str| report.exports.iter().any(|export| export.starts_with(name));
    if is_verifier && !exports("guesthouse:auth/verifier@0.1.") {
        return Err(PluginError::NoVerifier { plugin: name() });
    }
    if report.kind == inspect::Kind::None && plugin.rooms.is_none() {
        return Err(PluginError::NoHandler { plugin: name() });
    }
    Ok(())
}
