//! The difference between two sessions, as jsondiffpatch writes it.
//!
//! Owns `{oldHash, hashCode, delta}`: making one, and applying one exactly. What does not fit changes nothing.

use crate::session::{Field, Session};
use crate::unidiff;
use serde_json::{Map, Value, json};

/// Units of UTF-16 from which texts are compared instead of replaced: the default of jsondiffpatch.
const TEXT_DIFF: usize = 60;

/// Why a patch was not applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is for another state.
    Outdated,
    /// It is no patch; what is wrong with it.
    Malformed(&'static str),
    /// It fits and makes something else than it says.
    OtherResult,
}

/// The delta from one session to another, or none if they are equal.
#[must_use]
pub fn diff(old: &Session, new: &Session) -> Option<Value> {
    let mut delta = Map::new();
    for field in Field::ALL {
        let (before, after) = (old.get(field), new.get(field));
        if before == after {
            continue;
        }
        let change = if is_long(before) && is_long(after) {
            json!([unidiff::make(before, after), 0, 2])
        } else {
            json!([before, after])
        };
        delta.insert(field.name().to_owned(), change);
    }
    (!delta.is_empty()).then_some(Value::Object(delta))
}

fn is_long(text: &str) -> bool {
    text.len() >= TEXT_DIFF && text.encode_utf16().take(TEXT_DIFF).count() == TEXT_DIFF
}

/// The message that tells a client of a change.
#[must_use]
pub fn patch(old: &Session, new: &Session) -> Option<Value> {
    let delta = diff(old, new)?;
    Some(json!({ "oldHash": old.hash(), "hashCode": new.hash(), "delta": delta }))
}

/// Applies a delta that is for a session with the hash `old_hash`, and must make one with `new_hash`.
///
/// # Errors
/// See [`Rejected`].
pub fn apply(
    session: &Session,
    old_hash: &str,
    new_hash: &str,
    delta: &Value,
) -> Result<Session, Rejected> {
    if session.hash() != old_hash {
        return Err(Rejected::Outdated);
    }
    let mut new = session.clone();
    let fields = match delta {
        Value::Object(fields) => fields,
        // jsondiffpatch says so of equal things.
        Value::Array(none) if none.is_empty() => &Map::new(),
        _ => return Err(Rejected::Malformed("`delta` must be an object")),
    };
    for (name, change) in fields {
        let field = Field::of(name).ok_or(Rejected::Malformed(
            "`delta` may have the fields code, html, css and transpiled",
        ))?;
        let change = change.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = match change {
            [Value::String(text)] => text.clone(),
            [Value::String(before), Value::String(after)] => {
                if before != session.get(field) {
                    return Err(Rejected::Outdated);
                }
                after.clone()
            }
            [Value::String(text), zero, two] if *zero == 0 && *two == 2 => {
                unidiff::apply(session.get(field), text).map_err(|error| match error {
                    unidiff::Error::DoesNotFit => Rejected::Outdated,
                    unidiff::Error::Malformed => Rejected::Malformed("a text diff is malformed"),
                })?
            }
            [Value::String(_), zero, nothing] if *zero == 0 && *nothing == 0 => String::new(),
            _ => {
                return Err(Rejected::Malformed(
                    "a change must be [new], [old, new] or [diff, 0, 2]",
                ));
            }
        };
        *new.get_mut(field) = text;
    }
    if new.hash() == new_hash { Ok(new) } else { Err(Rejected::OtherResult) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(code: &str, css: &str) -> Session {
        Session {
            code_space: "a".to_owned(),
            code: code.to_owned(),
            css: css.to_owned(),
            ..Session::default()
        }
    }

    /// As jsondiffpatch 0.7.7 writes them.
    #[test]
    fn short_texts_are_replaced_and_long_ones_compared() {
        let (old, new) = (session("a", ""), session("b", "p {}"));
        assert_eq!(diff(&old, &new).unwrap(), json!({ "code": ["a", "b"], "css": ["", "p {}"] }));
        let long = "x".repeat(59);
        assert_eq!(
            diff(&session(&long, ""), &session(&format!("{long}yz"), "")).unwrap()["code"]
                .as_array()
                .unwrap()
                .len(),
            2,
        );
        let long = "x".repeat(60);
        let delta = diff(&session(&long, ""), &session(&format!("{long}y"), "")).unwrap();
        assert_eq!(delta, json!({ "code": ["@@ -57,4 +57,5 @@\n xxxx\n+y\n", 0, 2] }));
        assert_eq!(diff(&old, &old), None);
    }

    #[test]
    fn a_patch_for_another_state_is_refused_whatever_it_says() {
        let (old, new) = (session("a", ""), session("b", ""));
        let delta = diff(&old, &new).unwrap();
        assert_eq!(apply(&old, &old.hash(), &new.hash(), &delta).unwrap(), new);
        assert_eq!(apply(&old, "other", &new.hash(), &delta), Err(Rejected::Outdated));
        assert_eq!(apply(&old, &old.hash(), "other", &delta), Err(Rejected::OtherResult));
        let other = json!({ "code": ["z", "b"] });
        assert_eq!(apply(&old, &old.hash(), &new.hash(), &other), Err(Rejected::Outdated));
    }

    #[test]
    fn what_is_no_delta_is_refused() {
        let old = session("a", "");
        for delta in [
            json!(null),
            json!(["a", "b"]),
            json!({ "code": "b" }),
            json!({ "code": [1, 2] }),
            json!({ "code": ["a", "b", "c", "d"] }),
            json!({ "codeSpace": ["a", "b"] }),
            json!({ "__proto__": ["b"] }),
        ] {
            let result = apply(&old, &old.hash(), "x", &delta);
            assert!(matches!(result, Err(Rejected::Malformed(_))), "{delta}: {result:?}");
        }
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_other_session(
            (old, new) in ("[ab\n😀é ]{0,120}", "[ab\n😀é ]{0,120}"),
            (css, more) in ("[ab]{0,90}", "[ab]{0,90}"),
        ) {
            let (old, new) = (session(&old, &css), session(&new, &more));
            if let Some(delta) = diff(&old, &new) {
                prop_assert_eq!(apply(&old, &old.hash(), &new.hash(), &delta).unwrap(), new);
            } else {
                prop_assert_eq!(old, new);
            }
        }
    }
}
