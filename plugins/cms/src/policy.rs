//! Who may do what.
//!
//! Owns the answer to one question: may this caller read or write in this space? Nobody without a verified
//! identity writes anything, whatever the settings say. A page of another origin never writes with the cookies
//! of its visitor.

use crate::place::{Space, id_of};
use serde_json::Value;

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `sub`
    pub subject: String,
    /// `iss`
    pub issuer: Option<String>,
    /// All claims.
    pub claims: Value,
}

impl Caller {
    /// Under which the caller's things are kept.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(&self.subject)
    }
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody knows who calls.
    Unknown,
    /// The caller is known and may not.
    Forbidden,
}

/// Whether the caller may write in this space; `writers` is the setting `live_writers`.
///
/// # Errors
/// Why not.
pub fn may_write(caller: Option<&Caller>, space: &Space, writers: &str) -> Result<(), Refused> {
    let caller = caller.ok_or(Refused::Unknown)?;
    let may = match space {
        Space::Mine => true,
        Space::Of(name) => *name == caller.subject,
        Space::Live => is_writer(caller, writers),
    };
    if may { Ok(()) } else { Err(Refused::Forbidden) }
}

/// Whether the caller sees everything in this space, published or not, and its history.
#[must_use]
pub fn is_at_home(caller: Option<&Caller>, space: &Space, writers: &str) -> bool {
    may_write(caller, space, writers).is_ok()
}

/// `*`, a subject, or `claim=value`, with commas or blanks between them.
fn is_writer(caller: &Caller, writers: &str) -> bool {
    writers.split([',', ' ', '\n', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        let Some((claim, wanted)) = entry.split_once('=') else {
            return entry == "*" || entry == caller.subject;
        };
        let is = |value: &Value| value.as_str() == Some(wanted);
        match caller.claims.get(claim) {
            Some(Value::Array(values)) => values.iter().any(is),
            Some(value) => is(value),
            None => false,
        }
    })
}

/// Whether a request that changes something comes from this site: a browser says where from, and a program that
/// sends a token by hand needs not.
#[must_use]
pub fn is_from_here(origin: Option<&str>, host: Option<&str>, has_token: bool) -> bool {
    match origin {
        None => true,
        Some(_) if has_token => true,
        Some(origin) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            matches!((authority, host), (Some(from), Some(host)) if from.eq_ignore_ascii_case(host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ann() -> Caller {
        let claims = json!({"sub": "ann", "role": "editor", "groups": ["a", "b"], "level": 3});
        Caller { subject: "ann".into(), issuer: None, claims }
    }

    #[test]
    fn nobody_writes_without_a_name() {
        for space in [Space::Live, Space::Mine, Space::Of("ann".into())] {
            assert_eq!(may_write(None, &space, "*"), Err(Refused::Unknown), "{space:?}");
        }
    }

    #[test]
    fn everyone_writes_at_home_and_nowhere_else() {
        let ann = ann();
        assert_eq!(may_write(Some(&ann), &Space::Mine, ""), Ok(()));
        assert_eq!(may_write(Some(&ann), &Space::Of("ann".into()), ""), Ok(()));
        let other = Space::Of("bob".into());
        assert_eq!(may_write(Some(&ann), &other, "*"), Err(Refused::Forbidden));
    }

    #[test]
    fn the_shared_space_is_written_by_those_who_are_named() {
        let ann = ann();
        for (writers, may) in [
            ("", false),
            ("bob", false),
            ("an", false),
            ("ann", true),
            ("bob, ann", true),
            ("bob ann", true),
            ("*", true),
            ("role=editor", true),
            ("role=admin", false),
            ("groups=b", true),
            ("groups=c", false),
            ("level=3", false),
            ("none=x", false),
            ("=", false),
        ] {
            assert_eq!(may_write(Some(&ann), &Space::Live, writers).is_ok(), may, "{writers}");
        }
    }

    #[test]
    fn a_subject_that_looks_like_a_claim_is_none() {
        let claims = json!({"sub": "role=admin"});
        let odd = Caller { subject: "role=admin".into(), issuer: None, claims };
        assert!(may_write(Some(&odd), &Space::Live, "role=admin").is_err());
    }

    #[test]
    fn another_origin_s_page_does_not_write_with_a_cookie() {
        let host = Some("example.com:8787");
        assert!(is_from_here(None, host, false));
        assert!(is_from_here(Some("https://example.com:8787"), host, false));
        for other in ["https://evil.example", "null", "https://example.com", ""] {
            assert!(!is_from_here(Some(other), host, false), "{other}");
            assert!(is_from_here(Some(other), host, true), "{other}");
        }
    }
}
