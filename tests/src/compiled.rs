//! Machine code that an earlier house of these tests made, for the next one with the same component.
//!
//! A hundred houses would otherwise compile the same ten components. A house checks what it finds in its folder,
//! so a file that is half there, or of another version, is compiled anew and not run.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Files that are kept: beyond this, old versions of components are in the majority.
const MOST: usize = 400;

fn kept() -> PathBuf {
    crate::folder("GUESTHOUSE_GUESTS").join("compiled")
}

/// Puts what there is into the data folder of a house that has not begun.
pub(crate) fn take(data: &Path) {
    let folder = data.join("compiled");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    for file in files(&kept()) {
        // A link costs nothing; another file system wants a copy. What vanishes meanwhile is compiled anew.
        let to = folder.join(file.file_name().unwrap());
        if std::fs::hard_link(&file, &to).is_err() {
            _ = std::fs::copy(&file, &to);
        }
    }
}

/// Keeps what a house made.
pub(crate) fn keep(data: &Path) {
    let folder = kept();
    std::fs::create_dir_all(&folder).unwrap();
    let old = files(&folder);
    if old.len() > MOST {
        for file in old {
            _ = std::fs::remove_file(file);
        }
    }
    for file in files(&data.join("compiled")) {
        let to = folder.join(file.file_name().unwrap());
        if !to.exists() {
            let temporary = tempfile::NamedTempFile::new_in(crate::folder("GUESTHOUSE_GUESTS"));
            let temporary = temporary.unwrap().into_temp_path();
            std::fs::copy(&file, &temporary).unwrap();
            temporary.persist(&to).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}
