//! The index of a release.

use crate::short_hash;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The value of `current`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pointer {
    /// Which release is served.
    pub release: String,
}

impl Pointer {
    /// Reads it.
    ///
    /// # Errors
    /// It is not what the publisher writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("`current` is damaged: {error}"))
    }
}

/// The value of `release/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Release {
    /// `ASSET_MANIFEST`, to the letter: JSON of path → content-hashed name.
    pub manifest: String,
    /// By path.
    pub files: BTreeMap<String, File>,
    /// Ids of the releases before it that are kept, the newest first.
    #[serde(default)]
    pub former: Vec<String>,
}

/// A file of a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// The content-hashed name: `dir/name.0123456789.ext`.
    pub name: String,
    /// SHA-256: the bytes lie under `file/{sha256}`.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// Compressed variants and their sizes: `br`, `gzip`, `zstd`.
    #[serde(default)]
    pub encodings: BTreeMap<String, u64>,
}

/// A release, ready to be asked.
#[derive(Debug)]
pub struct Site {
    /// The manifest as it was published.
    pub manifest: String,
    /// The short hash of the manifest.
    pub hash: String,
    /// The path that stands in for pages that don't exist.
    pub spa: Option<String>,
    /// Ids of the releases before it that are kept, the newest first.
    pub former: Vec<String>,
    /// The same, once they were read: for who asks for a content-hashed name that is of none of today's files.
    pub older: Option<Vec<Site>>,
    files: BTreeMap<String, File>,
    /// Content-hashed name → path.
    names: HashMap<String, String>,
}

impl Site {
    /// Reads the index.
    ///
    /// # Errors
    /// It is not what the publisher writes.
    pub fn new(bytes: &[u8], spa: Option<String>) -> Result<Self, String> {
        let release: Release = serde_json::from_slice(bytes)
            .map_err(|error| format!("the release is damaged: {error}"))?;
        let names =
            release.files.iter().map(|(path, file)| (file.name.clone(), path.clone())).collect();
        let spa = spa.map(|path| path.trim_start_matches('/').to_owned());
        Ok(Self {
            hash: short_hash(&release.manifest),
            manifest: release.manifest,
            spa,
            former: release.former,
            older: None,
            files: release.files,
            names,
        })
    }

    /// The file of a path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// The path, as the index has it, and its file.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<(&str, &File)> {
        self.files.get_key_value(path).map(|(path, file)| (path.as_str(), file))
    }

    /// The path and file of a content-hashed name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<(&str, &File)> {
        let path = self.names.get(name)?;
        Some((path, self.files.get(path)?))
    }
}
