//! Who may do what in a room.
//!
//! Owns the rule, and nothing else: reading is for everyone who can reach the room; who may write is decided here, at
//! each change, from who the house has verified the caller to be.

use serde::{Deserialize, Serialize};

/// Who may write in a room that has an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The owner, and who is listed.
    #[default]
    Listed,
    /// Everyone who knows the room's name.
    Link,
}

/// What is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// Who created the room; none: nobody who was known.
    pub owner: Option<String>,
    /// Who may write.
    pub access: Access,
    /// Who is listed.
    pub writers: Vec<String>,
}

/// People that may be listed, and bytes of the name of one.
const LISTED: usize = 100;
const SUBJECT: usize = 256;

impl Rights {
    /// Whether this caller may change the room. `anonymous`: whether a caller whom nobody knows may write at all.
    #[must_use]
    pub fn may_write(&self, who: Option<&str>, anonymous: bool) -> bool {
        if who.is_none() && !anonymous {
            return false;
        }
        match &self.owner {
            None => true,
            Some(owner) => {
                self.access == Access::Link
                    || who.is_some_and(|who| who == owner || self.writers.iter().any(|w| w == who))
            }
        }
    }

    /// Whether this caller may change the rights: the owner alone.
    #[must_use]
    pub fn may_own(&self, who: Option<&str>) -> bool {
        self.owner.is_some() && self.owner.as_deref() == who
    }

    /// Takes `{"access", "writers"}`; what is absent stays.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn change(&mut self, wish: &serde_json::Value) -> Result<(), &'static str> {
        let mut changed = self.clone();
        if let Some(access) = wish.get("access") {
            changed.access = serde_json::from_value(access.clone())
                .map_err(|_| "`access` must be \"listed\" or \"link\"")?;
        }
        if let Some(writers) = wish.get("writers") {
            changed.writers = serde_json::from_value(writers.clone())
                .map_err(|_| "`writers` must be an array of texts")?;
        }
        if changed.writers.len() > LISTED || changed.writers.iter().any(|w| w.len() > SUBJECT) {
            return Err("at most 100 writers can be listed, of at most 256 bytes each");
        }
        *self = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owned() -> Rights {
        Rights { owner: Some("ann".to_owned()), ..Rights::default() }
    }

    #[test]
    fn an_owned_room_is_written_by_its_owner_and_by_who_is_listed() {
        let mut rights = owned();
        assert!(rights.may_write(Some("ann"), true));
        assert!(!rights.may_write(Some("bob"), true));
        assert!(!rights.may_write(None, true));
        assert_eq!(rights.change(&json!({ "writers": ["bob"] })), Ok(()));
        assert!(rights.may_write(Some("bob"), true));
        assert!(!rights.may_own(Some("bob")) && rights.may_own(Some("ann")));
    }

    #[test]
    fn with_the_link_everyone_writes_but_nobody_else_owns() {
        let mut rights = owned();
        assert_eq!(rights.change(&json!({ "access": "link" })), Ok(()));
        assert!(rights.may_write(Some("bob"), true) && rights.may_write(None, true));
        assert!(!rights.may_write(None, false));
        assert!(!rights.may_own(Some("bob")) && !rights.may_own(None));
    }

    #[test]
    fn a_room_without_an_owner_is_everyones_and_nobodys() {
        let rights = Rights::default();
        assert!(rights.may_write(None, true) && rights.may_write(Some("ann"), false));
        assert!(!rights.may_write(None, false));
        assert!(!rights.may_own(None) && !rights.may_own(Some("ann")));
    }

    #[test]
    fn a_wish_that_makes_no_sense_changes_nothing() {
        let mut rights = owned();
        for wish in [
            json!({ "access": "all", "writers": [] }),
            json!({ "access": "link", "writers": "bob" }),
            json!({ "access": "link", "writers": vec!["x"; 101] }),
            json!({ "access": "link", "writers": ["x".repeat(257)] }),
        ] {
            assert!(rights.change(&wish).is_err(), "{wish}");
            assert_eq!(rights, owned());
        }
    }
}
