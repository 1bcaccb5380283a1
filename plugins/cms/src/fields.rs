//! The header fields that belong to a document.
//!
//! Owns which fields of an upload are kept, their limits, and which of them may be given back as they came. What
//! can change under its address is never promised to stay for long.

use crate::document::Fields;
use std::collections::BTreeMap;

/// Bytes of `Content-Type`, `Cache-Control` and `Content-Language`.
const LONG: usize = 256;
/// Bytes of `Content-Disposition`.
const DISPOSITION: usize = 1024;
/// Bytes of all `X-Meta-…` fields together, and how many there may be.
const META: usize = 4096;
const META_FIELDS: usize = 32;
const META_NAME: &str = "x-meta-";

/// For what may change: ask each time.
const REVALIDATE: &str = "no-cache";

/// The fields of an upload that are kept. The media type is empty when there was none.
///
/// # Errors
/// A sentence about the field that is over a limit.
pub fn of_upload(headers: &[(String, String)]) -> Result<Fields, String> {
    let one = |name: &str, most: usize| -> Result<Option<String>, String> {
        let Some((_, value)) = headers.iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        let value = value.trim();
        if value.len() > most {
            return Err(format!("The field {name} may have {most} bytes."));
        }
        Ok((!value.is_empty()).then(|| value.to_owned()))
    };
    let mut meta = BTreeMap::new();
    let mut size = 0;
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with(META_NAME)) {
        size += name.len() + value.len();
        meta.insert(name.clone(), value.clone());
        if size > META || meta.len() > META_FIELDS {
            return Err(format!(
                "All fields {META_NAME}… together may be {META_FIELDS} and have {META} bytes."
            ));
        }
    }
    let kind = one("content-type", LONG)?.filter(|kind| is_media_type(kind));
    Ok(Fields {
        kind: kind.unwrap_or_default(),
        cache: one("cache-control", LONG)?,
        disposition: one("content-disposition", DISPOSITION)?,
        language: one("content-language", LONG)?,
        meta,
    })
}

/// `type/subtype`, whatever follows. curl sends forms with a type of their own when nobody says otherwise: that is
/// no statement about the document.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
        && essence != "application/x-www-form-urlencoded"
}

/// `Cache-Control` of an answer. `longest` is the setting `max_age` in seconds; a version that can't change may be
/// kept for ever. What is not public stays with its reader.
#[must_use]
pub fn cache_control(kept: Option<&str>, public: bool, immutable: bool, longest: u64) -> String {
    let who = if public { "public" } else { "private" };
    if immutable {
        return format!("{who}, max-age=31536000, immutable");
    }
    let Some(kept) = kept else { return format!("{who}, {REVALIDATE}") };
    let mut directives = Vec::new();
    for directive in kept.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" => return "no-store".to_owned(),
            "no-cache" => directives.push(REVALIDATE.to_owned()),
            "no-transform" => directives.push("no-transform".to_owned()),
            "max-age" => {
                let seconds = value.trim_matches('"').parse().unwrap_or(0_u64).min(longest);
                directives.push(format!("max-age={seconds}"));
            }
            // What it says about others (private, s-maxage, stale-…, immutable) is ours to say.
            _ => {}
        }
    }
    if !directives.iter().any(|d| d.starts_with("max-age") || d == REVALIDATE) {
        directives.push(REVALIDATE.to_owned());
    }
    format!("{who}, {}, must-revalidate", directives.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_describes_a_document_is_kept_and_nothing_else() {
        let fields = of_upload(&headers(&[
            ("content-type", "text/html"),
            ("cache-control", "max-age=5"),
            ("content-disposition", "attachment; filename=\"a.html\""),
            ("content-language", "de"),
            ("x-meta-author", "ann"),
            ("authorization", "Bearer x"),
            ("set-cookie", "a=b"),
            ("content-encoding", "gzip"),
        ]))
        .unwrap();
        assert_eq!(fields.kind, "text/html");
        assert_eq!(fields.language.as_deref(), Some("de"));
        assert_eq!(fields.meta, BTreeMap::from([("x-meta-author".into(), "ann".into())]));
        let text = serde_json::to_string(&fields).unwrap();
        assert!(!text.contains("Bearer") && !text.contains("cookie"), "{text}");
    }

    #[test]
    fn a_type_that_is_none_or_a_form_s_is_not_taken_for_the_document_s() {
        for kind in ["", "text", "text/", "/html", "a b/c", "application/x-www-form-urlencoded"] {
            assert_eq!(of_upload(&headers(&[("content-type", kind)])).unwrap().kind, "", "{kind}");
        }
        for kind in ["text/html; charset=utf-8", "application/vnd.api+json", "x-a/b_c"] {
            assert_eq!(of_upload(&headers(&[("content-type", kind)])).unwrap().kind, kind);
        }
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let language =
            |size: usize| of_upload(&headers(&[("content-language", &"d".repeat(size))]));
        assert!(language(LONG).is_ok());
        assert!(language(LONG + 1).unwrap_err().contains("content-language"));
        let meta = |size: usize| of_upload(&headers(&[("x-meta-a", &"d".repeat(size))]));
        assert!(meta(META - 8).is_ok());
        assert!(meta(META - 7).is_err());
        let many: Vec<(String, String)> =
            (0..=META_FIELDS).map(|n| (format!("x-meta-{n}"), String::new())).collect();
        assert!(of_upload(&many).is_err());
        assert!(of_upload(many.get(1..).unwrap()).is_ok());
    }

    #[test]
    fn what_can_change_is_never_promised_for_long() {
        let says = |kept: &str| cache_control(Some(kept), true, false, 3600);
        assert_eq!(cache_control(None, true, false, 3600), "public, no-cache");
        assert_eq!(cache_control(None, false, false, 3600), "private, no-cache");
        assert_eq!(says("max-age=60"), "public, max-age=60, must-revalidate");
        assert_eq!(
            says("public, max-age=31536000, immutable"),
            "public, max-age=3600, must-revalidate"
        );
        assert_eq!(says("max-age=99999999999999999999"), "public, max-age=0, must-revalidate");
        assert_eq!(says("s-maxage=31536000"), "public, no-cache, must-revalidate");
        assert_eq!(says("No-Store"), "no-store");
        assert_eq!(says("nonsense"), "public, no-cache, must-revalidate");
        let forever = cache_control(Some("no-cache"), false, true, 3600);
        assert_eq!(forever, "private, max-age=31536000, immutable");
    }

    proptest! {
        #[test]
        fn no_field_makes_a_changing_page_stay(kept in "[ -~]*") {
            let said = cache_control(Some(&kept), false, false, 3600);
            prop_assert!(!said.contains("immutable") && !said.contains("public"));
            for directive in said.split(", ") {
                if let Some(age) = directive.strip_prefix("max-age=") {
                    prop_assert!(age.parse::<u64>().unwrap() <= 3600);
                }
            }
        }
    }
}
