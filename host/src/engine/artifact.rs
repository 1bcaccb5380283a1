//! Compiled components on disk.
//!
//! Owns `DATA/compiled/`: machine code keyed by the digest of the component and by everything in the
//! engine that it depends on. Nothing is ever loaded that this house did not write itself: a file that
//! is truncated, changed or foreign is compiled anew. Loading machine code is unsafe by nature; this is
//! the one module of the house that may, and the checks in front of it are the reason why it may.
#![allow(unsafe_code)]

use super::compiler::{CompileError, Keys};
use crate::fault;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Why a component could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The folder can't be used.
    #[error("the folder for compiled components, {path}, can't be used: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no code.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The code is there and can't be used.
    #[error("the compiled component can't be loaded: {0:#}")]
    Load(wasmtime::Error),
    /// The disk is full, read-only or broken.
    #[error("the compiled component could not be written to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Compiled components of one data folder.
pub struct Artifacts {
    folder: PathBuf,
    /// Each with the key of what is compiled for it.
    engines: [(Engine, u64); 2],
    keys: Keys,
}

/// What is known of a compiled file: written after it, and compared before it is loaded.
#[derive(serde::Serialize, serde::Deserialize, PartialEq, Eq)]
struct Seal {
    component: String,
    engine: u64,
    size: u64,
    sha256: String,
}

impl Artifacts {
    /// Opens (and creates) `DATA/compiled`.
    ///
    /// # Errors
    /// The folder can't be made, or others than its owner may write to it: they could make the house
    /// run machine code of theirs.
    pub fn open(data: &Path, [sequential, concurrent]: [Engine; 2]) -> Result<Self, ArtifactError> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let folder = data.join("compiled");
        let refuse = |reason: String| ArtifactError::Folder { path: folder.clone(), reason };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| refuse(error.to_string()))?;
        let mode = fs::metadata(&folder).map_err(|e| refuse(e.to_string()))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(refuse("others may write to it; `chmod 700` it and try again".into()));
        }
        let keys = Keys::of(&sequential, &concurrent);
        let engines = [(sequential, keys.sequential), (concurrent, keys.concurrent)];
        Ok(Self { folder, engines, keys })
    }

    /// What compiled code must fit.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.keys
    }

    fn path(&self, digest: &str, key: u64) -> PathBuf {
        self.folder.join(format!("{digest}-{key:016x}.cwasm"))
    }

    /// Loads what was compiled before, for whichever engine; none when there is nothing that can be trusted.
    #[must_use]
    pub fn load(&self, digest: &str) -> Option<Component> {
        self.engines.iter().find_map(|(engine, key)| self.load_for(engine, *key, digest))
    }

    fn load_for(&self, engine: &Engine, key: u64, digest: &str) -> Option<Component> {
        let path = self.path(digest, key);
        let seal: Seal =
            serde_json::from_slice(&fs::read(path.with_extension("seal")).ok()?).ok()?;
        let (size, sha256) = hash_file(&path).ok()?;
        let found = Seal { component: digest.to_owned(), engine: key, size, sha256 };
        if seal != found {
            tracing::warn!(
                "the compiled component {} is damaged and is compiled anew",
                path.display()
            );
            return None;
        }
        // SAFETY: the file is in a folder that only this user can write to, and its digest is the one
        // that this house noted when it wrote what its own compiler had made.
        match unsafe { Component::deserialize_file(engine, &path) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(
                    "{} can't be loaded and is compiled anew: {error:#}",
                    path.display()
                );
                None
            }
        }
    }

    /// Keeps what `compile` writes into the file that it is given, and loads it; `compile` gives the key of the
    /// engine that the code is for. Takes as long as compiling does: never call it on a serving thread.
    ///
    /// # Errors
    /// The component does not compile, or the disk can't take the result. Nothing is left behind.
    pub fn keep(
        &self,
        digest: &str,
        compile: impl FnOnce(&Path) -> Result<u64, CompileError>,
    ) -> Result<Component, ArtifactError> {
        let temporary = temporary(&self.folder.join(digest));
        let kept = compile(&temporary).map_err(ArtifactError::Compile).and_then(|key| {
            fault::reach("code-written");
            let path = self.path(digest, key);
            match self.seal(digest, key, &temporary, &path) {
                Ok(()) => Ok((path, key)),
                Err(source) => Err(ArtifactError::Write { path, source }),
            }
        });
        let (path, key) = kept.inspect_err(|_| _ = fs::remove_file(&temporary))?;
        let engine = self.engines.iter().find(|(_, own)| *own == key);
        let Some((engine, _)) = engine else {
            return Err(ArtifactError::Compile(CompileError::Failed(format!(
                "its code is for an engine {key:016x}, which this house has not"
            ))));
        };
        // SAFETY: as in `load`; the bytes were written a moment ago.
        unsafe { Component::deserialize_file(engine, &path) }.map_err(ArtifactError::Load)
    }

    fn seal(&self, digest: &str, key: u64, temporary: &Path, path: &Path) -> io::Result<()> {
        let (size, sha256) = hash_file(temporary)?;
        let seal = Seal { component: digest.to_owned(), engine: key, size, sha256 };
        let seal = serde_json::to_vec(&seal).map_err(io::Error::other)?;
        // Opened for writing, since some file systems let nothing else be synced.
        fs::OpenOptions::new().append(true).open(temporary)?.sync_all()?;
        fs::rename(temporary, path)?;
        fault::reach("code-unsealed");
        write_whole(&path.with_extension("seal"), &seal).inspect_err(|_| _ = fs::remove_file(path))
    }

    /// Removes the code of components that nobody needs any more; with `leftovers` also what another engine
    /// made, and what was never finished: only while nothing is being compiled, which looks the same.
    pub fn collect(&self, needed: &dyn Fn(&str) -> bool, leftovers: bool) {
        let ours = [self.keys.sequential, self.keys.concurrent].map(|key| format!("-{key:016x}"));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name
                .strip_suffix(".cwasm")
                .or_else(|| name.strip_suffix(".seal"))
                .and_then(|stem| ours.iter().find_map(|key| stem.strip_suffix(key.as_str())));
            let unneeded = match digest {
                Some(digest) => {
                    !needed(digest) || (leftovers && !path.with_extension("seal").exists())
                }
                None => leftovers,
            };
            if unneeded {
                _ = fs::remove_file(path);
            }
        }
    }
}

/// Writes a file so that it is there whole or not at all, and still is after a loss of power.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let written = (|| {
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fault::reach("file-unnamed");
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        _ = fs::remove_file(&temporary);
    }
    written
}

/// A name beside `path` that nobody else uses.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension(format!("tmp-{}-{:08x}", std::process::id(), rand::random::<u32>()))
}

/// Size and SHA-256 of a file, without holding it in memory.
fn hash_file(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let size = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok((size, hex::encode(hasher.finalize())))
}

/// The digest by which a component is known: SHA-256 in lower-case hexadecimal digits.
#[must_use]
pub fn digest(wasm: &[u8]) -> String {
    hex::encode(Sha256::digest(wasm))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::settings::{Engines, compilers};
    use super::*;

    /// The smallest component there is: the preamble.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn open(data: &Path) -> Result<Artifacts, ArtifactError> {
        let Engines { sequential, concurrent } = compilers().unwrap();
        Artifacts::open(data, [sequential, concurrent])
    }

    fn house() -> (tempfile::TempDir, Artifacts) {
        let data = tempfile::tempdir().unwrap();
        let artifacts = open(data.path()).unwrap();
        (data, artifacts)
    }

    fn compile(
        artifacts: &Artifacts,
        digest: &str,
        wasm: &[u8],
    ) -> Result<Component, ArtifactError> {
        compile_for(artifacts, 0, digest, wasm)
    }

    fn compile_for(
        artifacts: &Artifacts,
        which: usize,
        digest: &str,
        wasm: &[u8],
    ) -> Result<Component, ArtifactError> {
        let (engine, key) = &artifacts.engines[which];
        artifacts.keep(digest, |file| {
            let code = engine
                .precompile_component(wasm)
                .map_err(|error| CompileError::Refused(format!("{error:#}")))?;
            fs::write(file, code)
                .map(|()| *key)
                .map_err(|error| CompileError::NotWritten(error.to_string()))
        })
    }

    #[test]
    fn only_code_that_is_needed_and_sealed_outlives_a_collection() {
        let (data, artifacts) = house();
        let name = digest(EMPTY);
        compile(&artifacts, &name, EMPTY).unwrap();
        fs::write(data.path().join("compiled/x.tmp-1-2"), "half").unwrap();
        artifacts.collect(&|digest| digest == name, true);
        assert!(artifacts.load(&name).is_some());
        assert_eq!(fs::read_dir(data.path().join("compiled")).unwrap().count(), 2);
        artifacts.collect(&|_| false, false);
        assert_eq!(fs::read_dir(data.path().join("compiled")).unwrap().count(), 0);
    }

    #[test]
    fn what_was_compiled_is_loaded_again() {
        let (_data, artifacts) = house();
        let name = digest(EMPTY);
        assert!(artifacts.load(&name).is_none());
        compile(&artifacts, &name, EMPTY).unwrap();
        assert!(artifacts.load(&name).is_some());
    }

    #[test]
    fn code_is_found_again_for_the_engine_that_it_was_compiled_for() {
        let (_data, artifacts) = house();
        for which in [0, 1] {
            let name = format!("{}{which}", digest(EMPTY));
            compile_for(&artifacts, which, &name, EMPTY).unwrap();
            let found = artifacts.load(&name).unwrap();
            assert!(Engine::same(found.engine(), &artifacts.engines[which].0));
        }
    }

    #[test]
    fn a_truncated_or_changed_file_is_not_loaded() {
        let (_data, artifacts) = house();
        let name = digest(EMPTY);
        compile(&artifacts, &name, EMPTY).unwrap();
        let path = artifacts.path(&name, artifacts.keys.sequential);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(artifacts.load(&name).is_none());
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(artifacts.load(&name).is_none());
        fs::write(&path, &whole).unwrap();
        assert!(artifacts.load(&name).is_some());
    }

    #[test]
    fn a_file_without_a_seal_is_not_loaded() {
        let (_data, artifacts) = house();
        let name = digest(EMPTY);
        compile(&artifacts, &name, EMPTY).unwrap();
        fs::remove_file(artifacts.path(&name, artifacts.keys.sequential).with_extension("seal"))
            .unwrap();
        assert!(artifacts.load(&name).is_none());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (data, _artifacts) = house();
        fs::set_permissions(data.path().join("compiled"), fs::Permissions::from_mode(0o777))
            .unwrap();
        let error = open(data.path()).err().unwrap();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_component_that_does_not_compile_leaves_nothing_behind() {
        let (data, artifacts) = house();
        assert!(compile(&artifacts, "x", b"\0asm\x0d\0\x01\0\xff").is_err());
        assert_eq!(fs::read_dir(data.path().join("compiled")).unwrap().count(), 0);
    }
}
