//! What a room keeps, and under which keys.
//!
//! Owns the layout of the room's storage. Long texts lie in pieces, because a value has a limit.
//!
//! | key | value |
//! |---|---|
//! | `m` | JSON: owner, rights, counters ([`Meta`]) |
//! | `j` | JSON: what is to be done later ([`Jobs`]) |
//! | `f/NAME/PIECE` | the fields `html`, `css`, `transpiled` |
//! | `s/PIECE` | the document, as it was when it was last compacted |
//! | `u/NUMBER` | each update of the document since then |
//! | `H/NUMBER`, `h/NUMBER/PIECE` | history: JSON about a state, and the state |
//! | `V/NUMBER`, `v/NUMBER/PIECE` | versions, the same way |
//! | `c/PIECE` | the last conversation of the chat, as JSON |
//! | `P/NAME`, `p/NAME\0PIECE` | public files: JSON about one, and its bytes |

use crate::access::Rights;
use guesthouse_sdk::room::{Error, KeyRange, Pair, beginning_with, storage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of a piece.
const PIECE: usize = 512 << 10;

/// What is kept of a room beside its texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// As which client the room edits its document.
    pub client: u32,
    /// Who may do what.
    #[serde(flatten)]
    pub rights: Rights,
    /// The number of the last version.
    pub versions: u32,
    /// The number of the last state in the history.
    pub history: u32,
    /// The hash of the session that is the last of the history.
    pub saved: String,
    /// What is wrong with the code; none: `transpiled` is made of it, or it has not been looked at.
    pub errors: Option<serde_json::Value>,
}

/// What is to be done later; times in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Jobs {
    /// Make JavaScript of the code.
    pub transpile: Option<u64>,
    /// Put the session into the history, and compact the document.
    pub save: Option<u64>,
    /// How often nobody could make JavaScript, since somebody last could.
    pub failures: u32,
}

impl Jobs {
    /// When the first is due.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.transpile.into_iter().chain(self.save).min()
    }
}

/// Reads JSON. None: it is not there.
///
/// # Errors
/// The storage failed, or what is there is not what it should be.
pub fn get_json<T: DeserializeOwned>(key: &[u8]) -> Result<Option<T>, Error> {
    let Some(bytes) = storage::get(key)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| Error::Invalid(format!("what is kept can't be read: {error}")))
}

/// Writes JSON.
///
/// # Errors
/// The storage does not take it.
pub fn put_json<T: Serialize>(key: &[u8], value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::Invalid(format!("that can't be kept: {error}")))?;
    storage::put(key, &bytes)
}

/// A key with a number behind it.
#[must_use]
pub fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn piece(prefix: &[u8], number: usize) -> Vec<u8> {
    [prefix, &u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()].concat()
}

/// Reads what lies in pieces; empty when there are none.
///
/// # Errors
/// The storage failed.
pub fn get_blob(prefix: &[u8]) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    for number in 0.. {
        match storage::get(&piece(prefix, number))? {
            Some(bytes) => all.extend(bytes),
            None => break,
        }
    }
    Ok(all)
}

/// Writes in pieces, and deletes those of a longer one before.
///
/// # Errors
/// The storage does not take it.
pub fn put_blob(prefix: &[u8], bytes: &[u8]) -> Result<(), Error> {
    let mut count = 0;
    for bytes in bytes.chunks(PIECE) {
        storage::put(&piece(prefix, count), bytes)?;
        count += 1;
    }
    // What was longer before.
    while storage::get(&piece(prefix, count))?.is_some() {
        storage::delete(&piece(prefix, count))?;
        count += 1;
    }
    Ok(())
}

/// Everything whose key begins like this, page by page.
///
/// # Errors
/// The storage failed.
pub fn scan(prefix: &[u8]) -> Result<Vec<Pair>, Error> {
    let mut within = beginning_with(prefix);
    let mut all = Vec::new();
    loop {
        let page = storage::scan(&within, 1000, false)?;
        let Some(last) = page.last() else { return Ok(all) };
        within.start = [last.key.as_slice(), &[0]].concat();
        all.extend(page);
    }
}

/// Deletes everything whose key begins like this.
///
/// # Errors
/// The storage failed.
pub fn delete_all(prefix: &[u8]) -> Result<(), Error> {
    let within: KeyRange = beginning_with(prefix);
    while storage::delete_range(&within)? > 0 {}
    Ok(())
}
