//! What may be kept and for how long (RFC 9111, and RFC 9213 for the targeted field).
//!
//! Owns pure decisions about header fields; it keeps nothing and asks no clock but for dates.

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_RANGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE,
    TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, StatusCode};
use std::time::{Duration, SystemTime};

/// A `Cache-Control` for this cache alone (RFC 9213 §2): it replaces `Cache-Control` here and is taken
/// off before the client sees the response. A plugin whose data changes only with a purge lets this cache
/// keep what browsers must ask for each time.
pub(super) const TARGETED: HeaderName = HeaderName::from_static("guesthouse-cache-control");

/// Directives of a `Cache-Control` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
}

/// Reads all fields of this name as one list.
pub(super) fn directives(headers: &HeaderMap, name: &HeaderName) -> Directives {
    let mut found = Directives::default();
    for value in headers.get_all(name) {
        let Ok(text) = value.to_str() else { continue };
        for directive in text.split(',') {
            let (name, argument) = match directive.split_once('=') {
                Some((name, argument)) => (name.trim(), Some(argument.trim().trim_matches('"'))),
                None => (directive.trim(), None),
            };
            // A duplicate or nonsensical age is taken as 0: the safe side (RFC 9111 §4.2.1).
            let seconds = || argument.map_or(Some(0), |text| text.parse().ok().or(Some(0)));
            match name.to_ascii_lowercase().as_str() {
                "no-store" => found.no_store = true,
                "no-cache" => found.no_cache = true,
                "private" => found.private = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => found.max_age = seconds(),
                "s-maxage" => found.s_maxage = seconds(),
                _ => {}
            }
        }
    }
    found
}

/// How long a response may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storable {
    /// From now on; zero: it must be asked for again each time, with its validator.
    pub(super) fresh_for: Duration,
    /// Its age when it came.
    pub(super) age: Duration,
    /// The plugin spoke to this cache by the targeted field, so a client's directives don't count.
    pub(super) targeted: bool,
}

/// Whether a response to a GET may be kept; none: it may not.
pub(super) fn storable(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Storable> {
    const KEPT: [StatusCode; 6] = [
        StatusCode::OK,
        StatusCode::NON_AUTHORITATIVE_INFORMATION,
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::PERMANENT_REDIRECT,
        StatusCode::NOT_FOUND,
        StatusCode::GONE,
    ];
    if !KEPT.contains(&status)
        || headers.contains_key(SET_COOKIE)
        || headers.contains_key(CONTENT_RANGE)
        || headers.contains_key(TRAILER)
        || headers.get_all(VARY).iter().any(|value| value.as_bytes().contains(&b'*'))
    {
        return None;
    }
    let targeted = headers.contains_key(&TARGETED);
    let field = if targeted { &TARGETED } else { &CACHE_CONTROL };
    let found = directives(headers, field);
    if found.no_store || found.private {
        return None;
    }
    let explicit = found
        .s_maxage
        .or(found.max_age)
        .or_else(|| if targeted { None } else { expires_in(headers, now) });
    let validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let fresh_for = if found.no_cache { 0 } else { explicit.unwrap_or(0) };
    if fresh_for == 0 && !(validator && status == StatusCode::OK) {
        return None;
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
    Some(Storable {
        fresh_for: Duration::from_secs(fresh_for.min(1 << 31)),
        age: Duration::from_secs(age),
        targeted,
    })
}

fn expires_in(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    headers.get(EXPIRES)?;
    // What is no date has expired (RFC 9111 §5.3).
    let Some(expires) = date(EXPIRES) else { return Some(0) };
    let from = date(DATE).unwrap_or(now);
    Some(expires.duration_since(from).map_or(0, |left| left.as_secs()))
}

/// What a client asks of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
    /// Nothing older than this without asking.
    pub(super) max_age: Option<Duration>,
}

pub(super) fn wish(headers: &HeaderMap) -> Wish {
    if !headers.contains_key(CACHE_CONTROL) {
        let no_cache = headers.get(PRAGMA).is_some_and(|value| value == "no-cache");
        return Wish {
            no_store: false,
            only_if_cached: false,
            max_age: no_cache.then_some(Duration::ZERO),
        };
    }
    let found = directives(headers, &CACHE_CONTROL);
    let max_age = if found.no_cache { Some(0) } else { found.max_age };
    Wish {
        no_store: found.no_store,
        only_if_cached: found.only_if_cached,
        max_age: max_age.map(Duration::from_secs),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    fn fresh(list: &[(&'static str, &str)]) -> Option<u64> {
        storable(StatusCode::OK, &headers(list), SystemTime::UNIX_EPOCH)
            .map(|s| s.fresh_for.as_secs())
    }

    #[test]
    fn freshness_comes_from_the_strongest_source() {
        assert_eq!(fresh(&[("cache-control", "max-age=5")]), Some(5));
        assert_eq!(fresh(&[("cache-control", "max-age=5, s-maxage=9")]), Some(9));
        assert_eq!(fresh(&[("cache-control", "max-age=\"7\"")]), Some(7));
        assert_eq!(fresh(&[("expires", "Thu, 01 Jan 1970 00:00:30 GMT")]), Some(30));
        assert_eq!(
            fresh(&[
                ("cache-control", "no-cache"),
                ("etag", "\"x\""),
                ("guesthouse-cache-control", "max-age=60")
            ]),
            Some(60)
        );
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        for list in [
            &[("cache-control", "no-store, max-age=5")][..],
            &[("cache-control", "private, max-age=5")],
            &[("cache-control", "max-age=5"), ("set-cookie", "a=b")],
            &[("cache-control", "max-age=5"), ("vary", "*")],
            &[("cache-control", "no-cache")],
            &[("expires", "0")],
            &[],
        ] {
            assert_eq!(fresh(list), None, "{list:?}");
        }
        let kept = headers(&[("cache-control", "max-age=5")]);
        for status in [StatusCode::PARTIAL_CONTENT, StatusCode::INTERNAL_SERVER_ERROR] {
            assert!(storable(status, &kept, SystemTime::UNIX_EPOCH).is_none());
        }
    }

    #[test]
    fn a_validator_alone_means_asking_each_time() {
        assert_eq!(fresh(&[("etag", "\"x\"")]), Some(0));
        assert_eq!(fresh(&[("cache-control", "no-cache, max-age=9"), ("etag", "\"x\"")]), Some(0));
    }

    proptest::proptest! {
        #[test]
        fn no_field_makes_it_panic(text in "[ -~]*") {
            let list = headers(&[("cache-control", &text), ("expires", &text), ("age", &text)]);
            _ = storable(StatusCode::OK, &list, SystemTime::now());
            _ = wish(&list);
        }
    }
}
