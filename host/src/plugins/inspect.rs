//! Looking at a component without running or compiling it.
//!
//! Owns the answer to "what is this file, and what would it need?". The file may be hostile: nothing here
//! panics, recurses without bound, or takes more memory than a small multiple of the file.

use crate::capabilities::{Grant, grant_for};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// The largest component that is looked at: 256 MiB.
pub const MAX_COMPONENT: u64 = 256 << 20;

/// Why a file is no component.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Neither wasm nor its text format.
    #[error(
        "this is not a WebAssembly file; a component begins with the bytes 00 61 73 6d 0d 00 01 00"
    )]
    NotWasm,
    /// The text format.
    #[error("this is the text format of WebAssembly; make a binary of it with `wasm-tools parse`")]
    Text,
    /// A module.
    #[error(
        "this is a core module, not a component; build for the target wasm32-wasip2, or wrap it with \
         `wasm-tools component new`"
    )]
    CoreModule,
    /// It ends too early.
    #[error(
        "the file ends in the middle: it was cut off, perhaps while being copied; copy it again"
    )]
    Truncated,
    /// Too large.
    #[error("the component has {0} bytes, and {MAX_COMPONENT} are the most that is loaded")]
    TooLarge(u64),
    /// It breaks the rules.
    #[error("the component is not valid: {0}")]
    Invalid(String),
}

/// Which interface a component answers through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// `wasi:http/incoming-handler@0.2`.
    #[serde(rename = "wasi:http 0.2")]
    Http02,
    /// `wasi:http/handler@0.3`.
    #[serde(rename = "wasi:http 0.3")]
    Http03,
    /// None that this host routes to.
    #[serde(rename = "none")]
    None,
}

/// What a component is.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// SHA-256 in hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// How requests reach it.
    pub kind: Kind,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Lines of configuration that it needs.
    pub grants: Vec<&'static str>,
    /// Imports that this host does not have.
    pub unknown: Vec<String>,
}

/// Looks at a file.
///
/// # Errors
/// See [`InspectError`].
pub fn inspect(bytes: &[u8]) -> Result<Report, InspectError> {
    let size = bytes.len() as u64;
    if size > MAX_COMPONENT {
        return Err(InspectError::TooLarge(size));
    }
    if !bytes.starts_with(b"\0asm") {
        let start = bytes.trim_ascii_start();
        return Err(if start.starts_with(b"(component") || start.starts_with(b"(module") {
            InspectError::Text
        } else if b"\0asm".starts_with(bytes) && !bytes.is_empty() {
            InspectError::Truncated
        } else {
            InspectError::NotWasm
        });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(InspectError::CoreModule);
    }
    let mut features = WasmFeatures::default();
    features.insert(WasmFeatures::CM_ASYNC);
    features.insert(WasmFeatures::WIDE_ARITHMETIC);
    let mut validator = Validator::new_with_features(features);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    let refuse = |error: wasmparser::BinaryReaderError| {
        if error.message().contains("unexpected end") {
            InspectError::Truncated
        } else {
            InspectError::Invalid(error.to_string())
        }
    };
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(refuse)?;
        validator.payload(&payload).map_err(refuse)?;
        match payload {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != Encoding::Component {
                    return Err(InspectError::CoreModule);
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(refuse)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(refuse)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let exported = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let kind = if exported("wasi:http/incoming-handler@0.2.") {
        Kind::Http02
    } else if exported("wasi:http/handler@0.3.") {
        Kind::Http03
    } else {
        Kind::None
    };
    let mut grants = BTreeSet::new();
    let mut unknown = Vec::new();
    for import in &imports {
        match grant_for(import) {
            Grant::Free => {}
            Grant::Needs { example, .. } => {
                grants.insert(example);
            }
            Grant::Unknown => unknown.push(import.clone()),
        }
    }
    Ok(Report {
        digest: hex::encode(Sha256::digest(bytes)),
        size,
        kind,
        imports,
        exports,
        grants: grants.into_iter().collect(),
        unknown,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_component_is_called_by_its_name() {
        assert!(matches!(inspect(b""), Err(InspectError::NotWasm)));
        assert!(matches!(inspect(b"<html>"), Err(InspectError::NotWasm)));
        assert!(matches!(inspect(b" (component)"), Err(InspectError::Text)));
        assert!(matches!(inspect(b"\0asm\x01\0\0\0"), Err(InspectError::CoreModule)));
        assert!(matches!(inspect(b"\0as"), Err(InspectError::Truncated)));
        assert!(matches!(inspect(b"\0asm\x0d\0\x01\0\x07\x09"), Err(InspectError::Truncated)));
    }

    #[test]
    fn an_empty_component_is_a_component_of_no_kind() {
        let report = inspect(b"\0asm\x0d\0\x01\0").unwrap();
        assert_eq!(report.kind, Kind::None);
        assert!(report.imports.is_empty() && report.exports.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            _ = inspect(&bytes);
            let mut framed = b"\0asm\x0d\0\x01\0".to_vec();
            framed.extend(bytes);
            _ = inspect(&framed);
        }
    }
}
