//! Heads and bodies, without a house.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::document::Fields;
use std::collections::BTreeMap;

fn version() -> Version {
    Version {
        number: 7,
        tag: "abc".into(),
        blob: "blob/d/b".into(),
        size: 100,
        at: 1_000_000_500,
        by: "ann".into(),
        charged: "ann".into(),
        variants: BTreeMap::from([("br".into(), 20), ("gzip".into(), 30)]),
        of: None,
        fields: Fields {
            kind: "text/html".into(),
            meta: BTreeMap::from([("x-meta-a".into(), "1".into())]),
            ..Fields::default()
        },
    }
}

fn shown() -> Shown {
    Shown {
        public: true,
        immutable: false,
        own_host: false,
        longest: 3600,
        embedder_policy: "credentialless".into(),
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn a_document_can_not_act_as_the_site() {
    let plain = reply(&version(), &shown(), &Ask::default());
    assert_eq!(header(&plain, "x-content-type-options"), Some("nosniff"));
    let policy = header(&plain, "content-security-policy").unwrap();
    assert!(policy.starts_with("sandbox ") && !policy.contains("allow-same-origin"), "{policy}");
    assert!(!policy.contains("top-navigation"), "{policy}");
    // Also with 304 and 206, which a browser joins with what it has.
    let asked = Ask { if_none_match: text("\"abc\""), ..Ask::default() };
    assert!(header(&reply(&version(), &shown(), &asked), "content-security-policy").is_some());
    let own = Shown { own_host: true, ..shown() };
    assert!(header(&reply(&version(), &own, &Ask::default()), "content-security-policy").is_none());
}

#[test]
fn conditions_ranges_and_variants_are_those_of_the_rfc() {
    let plain = || Ask::default();
    let cases = [
        (plain(), 200, Some(("blob/d/b", 0, 100)), "\"abc\""),
        (
            Ask { accept_encoding: text("gzip, br"), ..plain() },
            200,
            Some(("blob/d/b.br", 0, 20)),
            "\"abc-br\"",
        ),
        (
            Ask { accept_encoding: text("gzip"), ..plain() },
            200,
            Some(("blob/d/b.gzip", 0, 30)),
            "\"abc-gzip\"",
        ),
        (Ask { head: true, ..plain() }, 200, None, "\"abc\""),
        (Ask { range: text("bytes=10-19"), ..plain() }, 206, Some(("blob/d/b", 10, 10)), "\"abc\""),
        (
            Ask { range: text("bytes=10-19"), accept_encoding: text("br"), ..plain() },
            206,
            Some(("blob/d/b", 10, 10)),
            "\"abc\"",
        ),
        (Ask { range: text("bytes=100-"), ..plain() }, 416, None, "\"abc\""),
        (
            Ask { range: text("bytes=0-0"), if_range: text("\"abc\""), ..plain() },
            206,
            Some(("blob/d/b", 0, 1)),
            "\"abc\"",
        ),
        (
            Ask { range: text("bytes=0-0"), if_range: text("\"old\""), ..plain() },
            200,
            Some(("blob/d/b", 0, 100)),
            "\"abc\"",
        ),
        (
            Ask { range: text("bytes=0-0"), if_range: text("W/\"abc\""), ..plain() },
            200,
            Some(("blob/d/b", 0, 100)),
            "\"abc\"",
        ),
        (Ask { if_none_match: text("\"abc\""), ..plain() }, 304, None, "\"abc\""),
        (Ask { if_none_match: text("W/\"abc-br\", \"x\""), ..plain() }, 304, None, "\"abc\""),
        (Ask { if_none_match: text("*"), ..plain() }, 304, None, "\"abc\""),
        (
            Ask {
                if_none_match: text("\"old\""),
                if_modified_since: text("Fri, 01 Jan 2100 00:00:00 GMT"),
                ..plain()
            },
            200,
            Some(("blob/d/b", 0, 100)),
            "\"abc\"",
        ),
        (
            Ask { if_modified_since: text("Mon, 12 Jan 1970 13:46:40 GMT"), ..plain() },
            304,
            None,
            "\"abc\"",
        ),
        (
            Ask { if_modified_since: text("Mon, 12 Jan 1970 13:46:39 GMT"), ..plain() },
            200,
            Some(("blob/d/b", 0, 100)),
            "\"abc\"",
        ),
        (Ask { if_match: text("\"old\""), ..plain() }, 412, None, "\"abc\""),
        (Ask { if_match: text("\"abc\""), ..plain() }, 200, Some(("blob/d/b", 0, 100)), "\"abc\""),
        (
            Ask { if_unmodified_since: text("Mon, 12 Jan 1970 13:46:39 GMT"), ..plain() },
            412,
            None,
            "\"abc\"",
        ),
    ];
    for (ask, status, bytes, tag) in cases {
        let found = reply(&version(), &shown(), &ask);
        assert_eq!(found.status, status, "{ask:?}");
        let expected = bytes.map(|(key, first, length)| (key.to_owned(), first, length));
        assert_eq!(found.bytes, expected, "{ask:?}");
        assert_eq!(header(&found, "etag"), Some(tag), "{ask:?}");
        assert_eq!(header(&found, "vary"), Some("Accept-Encoding"));
    }
    let part = reply(&version(), &shown(), &Ask { range: text("bytes=-1"), ..plain() });
    assert_eq!(header(&part, "content-range"), Some("bytes 99-99/100"));
    assert_eq!(header(&part, "content-length"), Some("1"));
}

#[test]
fn what_is_not_public_stays_with_its_reader() {
    let private = Shown { public: false, ..shown() };
    let found = reply(&version(), &private, &Ask::default());
    assert_eq!(header(&found, "cache-control"), Some("private, no-cache"));
    assert_eq!(header(&found, "vary"), Some("Accept-Encoding, Authorization, Cookie"));
    assert_eq!(header(&found, "cross-origin-resource-policy"), None);
}

#[test]
fn a_writer_s_conditions_are_about_what_is_there() {
    let version = version();
    let check = |if_match: Option<&str>, if_none_match: Option<&str>, there: bool| {
        let conditions = Conditions {
            if_match: if_match.map(str::to_owned),
            if_none_match: if_none_match.map(str::to_owned),
        };
        conditions.hold(there.then_some(&version))
    };
    assert!(check(None, None, true) && check(None, None, false));
    assert!(check(Some("\"abc\""), None, true) && check(Some("\"abc-br\""), None, true));
    assert!(check(Some("\"x\", \"abc\""), None, true) && check(Some("*"), None, true));
    assert!(!check(Some("\"x\""), None, true) && !check(Some("W/\"abc\""), None, true));
    assert!(!check(Some("*"), None, false) && !check(Some("\"abc\""), None, false));
    assert!(check(None, Some("*"), false) && !check(None, Some("*"), true));
    assert!(check(None, Some("\"x\""), true) && !check(None, Some("\"abc\""), true));
}
