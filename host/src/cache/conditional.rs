//! Answers to conditional and range requests from a complete response (RFC 9110 §13 and §14).

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// What to answer instead of the whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole of it.
    Whole,
    /// 304.
    NotModified,
    /// 206 with bytes from the first to the last.
    Part(u64, u64),
    /// 416.
    Unsatisfiable,
}

/// Evaluates a request's preconditions against the stored header fields, in the order of RFC 9110 §13.2.2.
pub(super) fn evaluate(request: &HeaderMap, stored: &HeaderMap, size: u64) -> Outcome {
    if request.contains_key(IF_NONE_MATCH) {
        if request.get_all(IF_NONE_MATCH).iter().any(|tags| matches_weakly(tags, stored.get(ETAG)))
        {
            return Outcome::NotModified;
        }
    } else if let Some(since) = date(request.get(IF_MODIFIED_SINCE))
        && let Some(modified) = date(stored.get(LAST_MODIFIED))
        && modified <= since
    {
        return Outcome::NotModified;
    }
    match request.get(RANGE) {
        Some(range) if range_applies(request.get(IF_RANGE), stored) => parse_range(range, size),
        _ => Outcome::Whole,
    }
}

fn date(value: Option<&HeaderValue>) -> Option<std::time::SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

/// Weak comparison with each tag of a list.
fn matches_weakly(tags: &HeaderValue, stored: Option<&HeaderValue>) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let (Ok(tags), Some(stored)) = (tags.to_str(), stored.and_then(|tag| tag.to_str().ok())) else {
        return false;
    };
    tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag) == opaque(stored))
}

/// `If-Range` needs a strong tag, or the very date (RFC 9110 §13.1.5).
fn range_applies(if_range: Option<&HeaderValue>, stored: &HeaderMap) -> bool {
    let Some(wanted) = if_range else { return true };
    if wanted.as_bytes().starts_with(b"\"") {
        return stored.get(ETAG) == Some(wanted);
    }
    !wanted.as_bytes().starts_with(b"W/")
        && date(Some(wanted)).is_some()
        && date(Some(wanted)) == date(stored.get(LAST_MODIFIED))
}

/// One range of bytes. Several ranges, other units and what makes no sense give the whole, as RFC 9110
/// §14.2 allows; a range that begins beyond the end can't be satisfied.
pub(super) fn parse_range(value: &HeaderValue, size: u64) -> Outcome {
    let spec = value.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
        return Outcome::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit is beyond any end.
        plain.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last), first.is_empty(), last.is_empty()) {
        (None, Some(0), true, _) => Outcome::Unsatisfiable,
        (None, Some(_), true, _) if size == 0 => Outcome::Unsatisfiable,
        (None, Some(suffix), true, _) => Outcome::Part(size.saturating_sub(suffix), size - 1),
        (Some(first), None, _, true) if first < size => Outcome::Part(first, size - 1),
        (Some(first), Some(last), ..) if first <= last && first < size => {
            Outcome::Part(first, last.min(size - 1))
        }
        (Some(first), Some(last), ..) if first > last => Outcome::Whole,
        (Some(_), Some(_), ..) | (Some(_), None, _, true) => Outcome::Unsatisfiable,
        _ => Outcome::Whole,
    }
}

/// Turns a complete response into what was found.
pub(super) fn apply(
    outcome: &Outcome,
    headers: &mut HeaderMap,
    body: &Bytes,
) -> (Option<StatusCode>, Bytes) {
    match outcome {
        Outcome::Whole => (None, body.clone()),
        Outcome::NotModified => {
            // What describes the body belongs to the body (RFC 9110 §15.4.5).
            headers.remove(CONTENT_LENGTH);
            headers.remove(http::header::CONTENT_TYPE);
            headers.remove(http::header::CONTENT_ENCODING);
            (Some(StatusCode::NOT_MODIFIED), Bytes::new())
        }
        Outcome::Part(first, last) => {
            let start = usize::try_from(*first).unwrap_or(usize::MAX).min(body.len());
            let end = usize::try_from(last.saturating_add(1)).unwrap_or(usize::MAX).min(body.len());
            let part = body.slice(start..end.max(start));
            if let Ok(range) =
                HeaderValue::from_str(&format!("bytes {first}-{last}/{}", body.len()))
            {
                headers.insert(CONTENT_RANGE, range);
            }
            headers.insert(CONTENT_LENGTH, HeaderValue::from(part.len()));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            (Some(StatusCode::PARTIAL_CONTENT), part)
        }
        Outcome::Unsatisfiable => {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes */{}", body.len())) {
                headers.insert(CONTENT_RANGE, range);
            }
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            (Some(StatusCode::RANGE_NOT_SATISFIABLE), Bytes::new())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str, size: u64) -> Outcome {
        parse_range(&HeaderValue::from_str(text).unwrap(), size)
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        assert_eq!(range("bytes=0-0", 10), Outcome::Part(0, 0));
        assert_eq!(range("bytes=2-", 10), Outcome::Part(2, 9));
        assert_eq!(range("bytes=2-99", 10), Outcome::Part(2, 9));
        assert_eq!(range("bytes=-3", 10), Outcome::Part(7, 9));
        assert_eq!(range("bytes=-30", 10), Outcome::Part(0, 9));
        assert_eq!(range("bytes=10-", 10), Outcome::Unsatisfiable);
        assert_eq!(range("bytes=-0", 10), Outcome::Unsatisfiable);
        assert_eq!(range("bytes=99999999999999999999-", 10), Outcome::Unsatisfiable);
        for whole in ["bytes=5-2", "items=0-1", "bytes=0-1,3-4", "bytes=", "bytes=a-b", "bytes=-"] {
            assert_eq!(range(whole, 10), Outcome::Whole, "{whole}");
        }
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        let stored: HeaderMap = [(ETAG, HeaderValue::from_static("\"a\""))].into_iter().collect();
        let with = |tag: &'static str| -> HeaderMap {
            [
                (RANGE, HeaderValue::from_static("bytes=0-1")),
                (IF_RANGE, HeaderValue::from_static(tag)),
            ]
            .into_iter()
            .collect()
        };
        assert_eq!(evaluate(&with("\"a\""), &stored, 10), Outcome::Part(0, 1));
        assert_eq!(evaluate(&with("W/\"a\""), &stored, 10), Outcome::Whole);
        assert_eq!(evaluate(&with("\"b\""), &stored, 10), Outcome::Whole);
    }

    #[test]
    fn if_none_match_compares_weakly_and_beats_the_date() {
        let stored: HeaderMap = [
            (ETAG, HeaderValue::from_static("\"a\"")),
            (LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:30 GMT")),
        ]
        .into_iter()
        .collect();
        let ask = |name, value: &'static str| -> HeaderMap {
            [(name, HeaderValue::from_static(value))].into_iter().collect()
        };
        for tag in ["\"a\"", "W/\"a\"", "\"x\", W/\"a\"", "*"] {
            assert_eq!(
                evaluate(&ask(IF_NONE_MATCH, tag), &stored, 1),
                Outcome::NotModified,
                "{tag}"
            );
        }
        let since = "Thu, 01 Jan 1970 00:00:30 GMT";
        assert_eq!(evaluate(&ask(IF_MODIFIED_SINCE, since), &stored, 1), Outcome::NotModified);
        let mut both = ask(IF_MODIFIED_SINCE, since);
        both.insert(IF_NONE_MATCH, HeaderValue::from_static("\"b\""));
        assert_eq!(evaluate(&both, &stored, 1), Outcome::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_always_within_the_body(text in "[ -~]*", size in 0u64..100) {
            for text in [text.clone(), format!("bytes={text}")] {
                if let Outcome::Part(first, last) = range(&text, size) {
                    prop_assert!(first <= last && last < size);
                }
            }
        }
    }
}
