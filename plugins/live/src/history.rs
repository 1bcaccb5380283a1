//! What was: states that are kept by themselves, and versions that somebody made.
//!
//! Owns both lists. A version is never changed; a state of the history goes when there are too many. Going back is
//! an edit like any other, so it can be undone, too.

use crate::delta;
use crate::keep::{self, delete_all, get_blob, get_json, numbered, put_blob, put_json};
use crate::session::Session;
use crate::state::{Done, Fail, Live, refuse};
use guesthouse_sdk::room::{Principal, self_room, storage};
use serde_json::{Value, json};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// By itself.
    History,
    /// By somebody.
    Versions,
}

impl List {
    fn about(self) -> &'static [u8] {
        match self {
            Self::History => b"H",
            Self::Versions => b"V",
        }
    }

    fn state(self) -> &'static [u8] {
        match self {
            Self::History => b"h",
            Self::Versions => b"v",
        }
    }

    /// Everything about its entries, oldest first.
    ///
    /// # Errors
    /// The storage failed.
    pub fn all(self) -> Done<Vec<Value>> {
        let pairs = keep::scan(self.about())?;
        Ok(pairs.iter().filter_map(|pair| serde_json::from_slice(&pair.value).ok()).collect())
    }

    /// About one entry, and its session. None: there is no such entry.
    ///
    /// # Errors
    /// The storage failed.
    pub fn get(self, number: u32) -> Done<Option<(Value, Session)>> {
        let number = u64::from(number);
        let Some(about) = get_json::<Value>(&numbered(self.about(), number))? else {
            return Ok(None);
        };
        let bytes = get_blob(&numbered(self.state(), number))?;
        let session = serde_json::from_slice(&bytes).map_err(|error| {
            Fail::Broken(format!("a state that is kept can't be read: {error}"))
        })?;
        Ok(Some((about, session)))
    }

    fn put(self, number: u32, about: &Value, session: &Session) -> Done<()> {
        let number = u64::from(number);
        let bytes = serde_json::to_vec(session).map_err(|error| Fail::Broken(error.to_string()))?;
        put_json(&numbered(self.about(), number), about)?;
        Ok(put_blob(&numbered(self.state(), number), &bytes)?)
    }

    fn delete(self, number: u32) -> Done<()> {
        let number = u64::from(number);
        storage::delete(&numbered(self.about(), number))?;
        Ok(delete_all(&numbered(self.state(), number))?)
    }
}

fn about(number: u32, session: &Session) -> Value {
    json!({ "number": number, "at": self_room::now(), "hash": session.hash(), "bytes": session.code.len() })
}

/// Puts the session into the history, unless it is the last state there already.
///
/// # Errors
/// The storage does not take it.
pub fn save(live: &mut Live) -> Done<()> {
    let session = live.session().clone();
    let hash = session.hash();
    if live.meta.saved == hash || live.settings.history == 0 {
        return Ok(());
    }
    let number = live.meta.history.saturating_add(1);
    List::History.put(number, &about(number, &session), &session)?;
    if let Some(old) = number.checked_sub(live.settings.history).filter(|old| *old > 0) {
        List::History.delete(old)?;
    }
    live.meta.history = number;
    live.meta.saved = hash;
    live.keep_meta()
}

/// Makes a version of the session as it is. What is told of it.
///
/// # Errors
/// 409 when there are too many.
pub fn version(live: &mut Live, message: &str, by: Option<&Principal>) -> Done<Value> {
    if live.meta.versions >= live.settings.versions {
        let most = live.settings.versions;
        return Err(refuse(409, format!("a room may have {most} versions (versions)")));
    }
    if message.len() > 500 {
        return Err(refuse(400, "`message` may have 500 bytes"));
    }
    // What a version shows when it runs is made of its code.
    live.transpile(false)?;
    let session = live.session().clone();
    let number = live.meta.versions.saturating_add(1);
    let mut about = about(number, &session);
    if let Some(fields) = about.as_object_mut() {
        fields.insert("message".to_owned(), message.into());
        fields.insert("by".to_owned(), by.map(|by| by.subject.clone()).into());
    }
    List::Versions.put(number, &about, &session)?;
    live.meta.versions = number;
    live.keep_meta()?;
    Ok(about)
}

/// The patch that led to a state of the history, or an empty object.
///
/// # Errors
/// The storage failed.
pub fn patch(number: u32) -> Done<Value> {
    let before = number.checked_sub(1).map(|number| List::History.get(number)).transpose()?;
    let (Some(Some((_, old))), Some((_, new))) = (before, List::History.get(number)?) else {
        return Ok(json!({}));
    };
    Ok(delta::patch(&old, &new).unwrap_or_else(|| json!({})))
}
