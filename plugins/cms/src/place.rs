//! Where a URL points.
//!
//! Owns the way from a path, as the client sent it, to the name of a document: percent-decoding once, Unicode in
//! its composed form (NFC), and no segment that could mean another place. Two spellings of one name are one
//! document, and no spelling leads out of a space. The danger that shaped it: a name that is checked in one
//! spelling and used in another.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// Bytes of a document's name.
pub const LONGEST: usize = 400;

/// Whose documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    /// `/live-cms`: everyone's.
    Live,
    /// `/my-cms`: the caller's own.
    Mine,
    /// `/my-cms/~name`: what someone has published.
    Of(String),
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which space.
    pub space: Space,
    /// The name of the document, decoded; empty: the space itself.
    pub name: String,
    /// Whether a folder is meant: the path ends with a slash, or is the space itself.
    pub folder: bool,
}

/// Why a URL points nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is none of ours.
    Elsewhere,
    /// `%` without two digits behind it, or bytes that are no text.
    Encoding,
    /// An empty segment, `.`, `..`, a backslash or a control character.
    Segment,
    /// More than [`LONGEST`] bytes.
    Long,
}

impl Wrong {
    /// Status and sentence.
    #[must_use]
    pub fn answer(self) -> (u16, String) {
        match self {
            Self::Elsewhere => (404, "There is nothing here.".to_owned()),
            Self::Encoding => {
                (400, "The path is not percent-encoded UTF-8: write % as %25.".to_owned())
            }
            Self::Segment => (
                400,
                "The path has an empty segment, `.`, `..`, a backslash or a control character."
                    .to_owned(),
            ),
            Self::Long => (414, format!("A name may have {LONGEST} bytes.")),
        }
    }
}

impl Place {
    /// Reads the path of a request, without its query.
    ///
    /// # Errors
    /// See [`Wrong`].
    pub fn of(path: &str) -> Result<Self, Wrong> {
        let under = |first: &str| {
            let rest = path.strip_prefix(first)?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
        };
        let (live, rest) = match (under("/live-cms"), under("/my-cms")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(Wrong::Elsewhere),
        };
        let name = decode(rest)?;
        let folder = name.is_empty() || name.ends_with('/');
        let name = name.strip_suffix('/').unwrap_or(&name);
        if name.len() > LONGEST {
            return Err(Wrong::Long);
        }
        if !rest.is_empty() && !name.split('/').all(is_segment) {
            return Err(Wrong::Segment);
        }
        let (space, name) = match name.strip_prefix('~').filter(|_| !live) {
            Some(rest) => {
                let (who, name) = rest.split_once('/').unwrap_or((rest, ""));
                if who.is_empty() {
                    return Err(Wrong::Segment);
                }
                (Space::Of(who.to_owned()), name)
            }
            None if live => (Space::Live, name),
            None => (Space::Mine, name),
        };
        Ok(Self { space, folder: folder || name.is_empty(), name: name.to_owned() })
    }

    /// The names under which a reader may find a document, the first one first.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        let name = &self.name;
        match (self.folder, name.is_empty()) {
            (_, true) => vec!["index.html".to_owned()],
            (true, _) => vec![format!("{name}/index.html")],
            (false, _) => {
                vec![name.clone(), format!("{name}.html"), format!("{name}/index.html")]
            }
        }
    }
}

/// Decodes once and composes.
fn decode(text: &str) -> Result<String, Wrong> {
    let bytes = text.as_bytes();
    let complete = |at: usize| {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        digit(at + 1) && digit(at + 2)
    };
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !complete(at)) {
        return Err(Wrong::Encoding);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Wrong::Encoding)?;
    Ok(decoded.nfc().collect())
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(|c| c.is_control() || c == '\\')
}

/// What a path may hold without an escape.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A name as it stands in a URL.
#[must_use]
pub fn encoded(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

/// Under which a caller's things are kept: as long as the subject lives, and of one length.
#[must_use]
pub fn id_of(subject: &str) -> String {
    digest(&["caller", subject])
}

/// The first half of the SHA-256 of these texts, each with its length in front.
#[must_use]
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(32);
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(path: &str) -> (Space, String, bool) {
        let Place { space, name, folder } = Place::of(path).unwrap();
        (space, name, folder)
    }

    #[test]
    fn a_path_names_a_space_and_a_document() {
        for (path, space, name, folder) in [
            ("/my-cms", Space::Mine, "", true),
            ("/my-cms/", Space::Mine, "", true),
            ("/my-cms/a", Space::Mine, "a", false),
            ("/my-cms/a/b.html", Space::Mine, "a/b.html", false),
            ("/my-cms/a/", Space::Mine, "a", true),
            ("/my-cms/~ann", Space::Of("ann".into()), "", true),
            ("/my-cms/~ann/", Space::Of("ann".into()), "", true),
            ("/my-cms/~ann/x/y", Space::Of("ann".into()), "x/y", false),
            ("/my-cms/%7Eann/x", Space::Of("ann".into()), "x", false),
            ("/my-cms/~auth0%7C1/x", Space::Of("auth0|1".into()), "x", false),
            ("/live-cms/~ann/x", Space::Live, "~ann/x", false),
            ("/live-cms/a%20b", Space::Live, "a b", false),
            ("/live-cms/a%2Fb", Space::Live, "a/b", false),
            ("/live-cms/100%25", Space::Live, "100%", false),
            ("/live-cms/%2561", Space::Live, "%61", false),
        ] {
            assert_eq!(place(path), (space, name.to_owned(), folder), "{path}");
        }
    }

    #[test]
    fn two_spellings_of_a_name_are_one() {
        let composed = place("/live-cms/%C3%A9");
        assert_eq!(place("/live-cms/e%CC%81"), composed);
        assert_eq!(place("/live-cms/é"), composed);
    }

    #[test]
    fn what_points_nowhere_is_refused() {
        for (path, wrong) in [
            ("/", Wrong::Elsewhere),
            ("/my-cmsx/a", Wrong::Elsewhere),
            ("/my-cms/%", Wrong::Encoding),
            ("/my-cms/%zz", Wrong::Encoding),
            ("/my-cms/a%2", Wrong::Encoding),
            ("/my-cms/%ff", Wrong::Encoding),
            ("/my-cms/a//b", Wrong::Segment),
            ("/my-cms//", Wrong::Segment),
            ("/my-cms/a/../b", Wrong::Segment),
            ("/my-cms/%2e%2e/b", Wrong::Segment),
            ("/my-cms/..%2fb", Wrong::Segment),
            ("/my-cms/a%5cb", Wrong::Segment),
            ("/my-cms/a%00", Wrong::Segment),
            ("/my-cms/a%0d%0ab", Wrong::Segment),
            ("/my-cms/~", Wrong::Segment),
            ("/my-cms/~/x", Wrong::Segment),
        ] {
            assert_eq!(Place::of(path).unwrap_err(), wrong, "{path}");
        }
        let long = format!("/my-cms/{}", "a".repeat(LONGEST + 1));
        assert_eq!(Place::of(&long).unwrap_err(), Wrong::Long);
        assert!(Place::of(&format!("/my-cms/{}", "a".repeat(LONGEST))).is_ok());
    }

    #[test]
    fn a_reader_finds_pages_without_their_ending() {
        let candidates = |path: &str| Place::of(path).unwrap().candidates();
        assert_eq!(candidates("/live-cms/a"), ["a", "a.html", "a/index.html"]);
        assert_eq!(candidates("/live-cms/a/"), ["a/index.html"]);
        assert_eq!(candidates("/live-cms/"), ["index.html"]);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_found_again_under_its_own_name(path in "(/[a-z~.%\\\\é\u{301}0-9/]{0,20}|\\PC{0,20})") {
            if let Ok(found) = Place::of(&format!("/live-cms/{path}")) {
                prop_assert!(found.name.len() <= LONGEST);
                prop_assert!(!found.name.starts_with('/') && !found.name.ends_with('/'));
                prop_assert!(found.name.split('/').all(|part| part != ".." && part != "."));
                let again = Place::of(&format!("/live-cms/{}", encoded(&found.name))).unwrap();
                prop_assert_eq!(again.name, found.name);
            }
        }

        #[test]
        fn no_text_makes_it_panic(path in "\\PC*") {
            _ = Place::of(&path);
            _ = Place::of(&format!("/my-cms/{path}"));
        }

        #[test]
        fn no_name_leads_into_another_s_space(name in "[a-z~%./]{0,12}") {
            if let Ok(Place { space: Space::Mine, name, .. }) = Place::of(&format!("/my-cms/{name}")) {
                prop_assert!(!name.starts_with('~'));
            }
        }
    }
}
