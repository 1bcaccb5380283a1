//! What a room is about: a program and what became of it.
//!
//! Owns the five fields and their hashes. The hashes are the original's, so that its clients understand them; they
//! have less than 31 bits, which is why nothing here trusts a hash alone: a patch must fit, too.

use serde::{Deserialize, Serialize};
use short_hash::short_hash;

/// A session. The order of fields is the one in which clients see them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Session {
    /// The room's name.
    pub code_space: String,
    /// The source.
    pub code: String,
    /// What the page shows before its script runs.
    pub html: String,
    /// Its styles.
    pub css: String,
    /// JavaScript made of `code`: the last that could be made.
    pub transpiled: String,
}

/// A field that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `code`
    Code,
    /// `html`
    Html,
    /// `css`
    Css,
    /// `transpiled`
    Transpiled,
}

impl Field {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Code, Self::Html, Self::Css, Self::Transpiled];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Html => "html",
            Self::Css => "css",
            Self::Transpiled => "transpiled",
        }
    }

    /// The field of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

impl Session {
    /// What a field holds.
    #[must_use]
    pub fn get(&self, field: Field) -> &str {
        match field {
            Field::Code => &self.code,
            Field::Html => &self.html,
            Field::Css => &self.css,
            Field::Transpiled => &self.transpiled,
        }
    }

    /// The same, to be replaced.
    pub fn get_mut(&mut self, field: Field) -> &mut String {
        match field {
            Field::Code => &mut self.code,
            Field::Html => &mut self.html,
            Field::Css => &mut self.css,
            Field::Transpiled => &mut self.transpiled,
        }
    }

    /// By this hash clients know which state they have.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut fields = serde_json::Map::new();
        fields.insert("codeSpace".to_owned(), self.code_space.clone().into());
        for field in [Field::Code, Field::Html, Field::Css, Field::Transpiled] {
            fields.insert(field.name().to_owned(), short_hash(self.get(field)).into());
        }
        short_hash(&serde_json::Value::Object(fields).to_string())
    }

    /// As JSON, with its hash.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("hash".to_owned(), self.hash().into());
        }
        value
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Begins with the template.
    Template,
    /// Begins as a copy of that room.
    Fork(&'a str),
}

/// Whether a room may have this name: 1 to 64 letters, digits, dots, dashes or underscores, and a letter or digit
/// first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// What a room of this name begins with: `base-name` is a fork of `base`, but `x-name` and `code-name` are not.
#[must_use]
pub fn origin(name: &str) -> Origin<'_> {
    match name.split_once('-') {
        Some((base, rest)) if !rest.is_empty() && base != "x" && base != "code" => {
            Origin::Fork(base)
        }
        _ => Origin::Template,
    }
}

/// What a new room begins with.
#[must_use]
pub fn template(name: &str) -> Session {
    Session { code_space: name.to_owned(), code: TEMPLATE.to_owned(), ..Session::default() }
}

/// The source of a new room. It needs nothing from anywhere.
const TEMPLATE: &str = r##"// Everyone in this room edits this code, and sees at once what it does.
const root = document.getElementById("embed") ?? document.body;
let clicks = 0;

const button = document.createElement("button");
button.onclick = () => show(clicks + 1);
root.replaceChildren(button);
show(0);

function show(count: number): void {
  clicks = count;
  button.textContent = `Write your code here! (${clicks})`;
}
"##;

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_of_a_session_is_the_originals() {
        let code = "const a = 1;".to_owned();
        let session = Session {
            code_space: "test-space".to_owned(),
            code: code.clone(),
            html: "<div></div>".to_owned(),
            css: String::new(),
            transpiled: code,
        };
        assert_eq!(session.hash(), "RyRu7RyR");
        assert_eq!(session.to_json()["hash"], "RyRu7RyR");
        let again: Session = serde_json::from_value(session.to_json()).unwrap_or_default();
        assert_eq!(again, session);
    }

    #[test]
    fn names_say_what_a_room_begins_with() {
        assert_eq!(origin("clock-mine"), Origin::Fork("clock"));
        assert_eq!(origin("clock-of-mine"), Origin::Fork("clock"));
        for name in ["clock", "x-clock", "code-clock", "clock-"] {
            assert_eq!(origin(name), Origin::Template, "{name}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "A-b.c_d", "0", &"x".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".", "..", "a b", "a/b", "ä", "a%", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_base_of_a_fork_is_a_name_and_no_fork(name in "[a-z][a-z.-]{0,20}") {
            if let Origin::Fork(base) = origin(&name) {
                prop_assert!(is_name(base));
                prop_assert_eq!(origin(base), Origin::Template);
            }
        }
    }
}
