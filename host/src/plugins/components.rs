//! The components that any kept version is made of.
//!
//! Owns `DATA/components/`: each file is named by its digest, is there whole or not at all, and is never
//! changed. The danger that shaped it: a rollback or a restart that needs a file of the operator's which has
//! meanwhile been replaced.

use crate::engine::artifact::{digest, write_whole};
use std::io;
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Components {
    folder: PathBuf,
}

impl Components {
    /// Opens (and creates) `DATA/components`.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = data.join("components");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    /// Where the component with this digest is, or would be.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keeps a component.
    ///
    /// # Errors
    /// The disk is full, read-only or broken. Nothing is left behind.
    pub(super) fn put(&self, digest: &str, wasm: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == wasm.len() as u64) {
            return Ok(());
        }
        write_whole(&path, wasm)
    }

    /// Looks whether the component is there and is still what its name says.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub(super) fn verify(&self, expected: &str) -> io::Result<()> {
        let path = self.path(expected);
        if digest(&std::fs::read(&path)?) == expected {
            return Ok(());
        }
        Err(io::Error::other(format!("{} is damaged", path.display())))
    }

    /// Removes the components that no version needs, and what was never finished. Only while nothing is put.
    pub(super) fn collect(&self, needed: &dyn Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.strip_suffix(".wasm").is_some_and(needed) {
                _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_verified_and_collected() {
        let data = tempfile::tempdir().unwrap();
        let components = Components::open(data.path()).unwrap();
        let name = digest(b"one");
        components.put(&name, b"one").unwrap();
        components.verify(&name).unwrap();
        std::fs::write(components.path(&name), b"eno").unwrap();
        assert!(components.verify(&name).unwrap_err().to_string().contains("damaged"));
        std::fs::write(components.path("half.tmp-1"), b"").unwrap();
        components.collect(&|digest| digest == name);
        assert_eq!(std::fs::read_dir(data.path().join("components")).unwrap().count(), 1);
        assert!(components.verify(&digest(b"two")).is_err());
    }
}
