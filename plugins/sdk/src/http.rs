//! What every plugin needs that serves files: compressed variants (RFC 9110 §12.5.3), ranges (§14) and entity
//! tags (§8.8.3). Pure functions over the texts of header fields.

/// The best variant that the client takes: the smallest of those with the highest weight. None: the plain
/// bytes, which are also the answer when the client refuses everything.
#[must_use]
pub fn encoding<'a>(
    accept: Option<&str>,
    plain_size: u64,
    variants: impl Iterator<Item = (&'a str, u64)>,
) -> Option<&'a str> {
    let accept = accept?;
    let mut best = (weight(accept, "identity", true), plain_size, None);
    for (name, size) in variants {
        let offer = (weight(accept, name, false), size, Some(name));
        let better = offer.0 > best.0 || (offer.0 == best.0 && offer.1 < best.1);
        if offer.0 > 0 && better {
            best = offer;
        }
    }
    best.2
}

/// The weight that a client gives a coding, in thousandths; 0: not wanted.
fn weight(accept: &str, coding: &str, unless_refused: bool) -> u32 {
    let mut wildcard = None;
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let q = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1000, thousandths);
        if name.eq_ignore_ascii_case(coding)
            || (coding == "gzip" && name.eq_ignore_ascii_case("x-gzip"))
        {
            return q;
        }
        if name == "*" {
            wildcard = Some(q);
        }
    }
    // The plain bytes are always welcome, but least, unless they are refused by name or by `*`.
    wildcard.unwrap_or(u32::from(unless_refused))
}

/// `0.5` → 500; what is no weight counts as 0.
fn thousandths(text: &str) -> u32 {
    text.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).map_or(0, |q| (q * 1000.0) as u32)
}

/// What a `Range` field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Everything: there is none, or it makes no sense, or it asks for several at once.
    Whole,
    /// From the first of these bytes to the last.
    Part(u64, u64),
    /// Nothing of what is asked for is there.
    Unsatisfiable,
}

/// One range of bytes of so many; several, and what makes no sense, give the whole.
#[must_use]
pub fn range(field: Option<&str>, size: u64) -> Range {
    let Some((first, last)) = field
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .and_then(|spec| spec.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || size == 0 {
                Range::Unsatisfiable
            } else {
                Range::Part(size.saturating_sub(suffix), size - 1)
            }
        }
        (Some(first), None) if last.is_empty() => {
            if first < size {
                Range::Part(first, size - 1)
            } else {
                Range::Unsatisfiable
            }
        }
        (Some(first), Some(last)) if first <= last => {
            if first < size {
                Range::Part(first, last.min(size - 1))
            } else {
                Range::Unsatisfiable
            }
        }
        _ => Range::Whole,
    }
}

/// The tags of an `If-Match` or `If-None-Match` field, without their quotes; `weak` says what becomes of weak ones:
/// they match where a copy is as good (`If-None-Match`), and never where it must be the same (`If-Match`).
pub fn tags(field: &str, weak: bool) -> impl Iterator<Item = &str> {
    field.split(',').filter_map(move |tag| {
        let tag = tag.trim();
        let tag = match tag.strip_prefix("W/") {
            Some(rest) if weak => rest,
            Some(_) => return None,
            None => tag,
        };
        tag.strip_prefix('"')?.strip_suffix('"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choose(accept: &str) -> Option<&'static str> {
        encoding(Some(accept), 100, [("br", 30), ("gzip", 40), ("zstd", 35)].into_iter())
    }

    #[test]
    fn the_smallest_of_the_most_wanted_wins() {
        assert_eq!(choose("gzip, deflate, br, zstd"), Some("br"));
        assert_eq!(choose("gzip, zstd"), Some("zstd"));
        assert_eq!(choose("gzip;q=1.0, br;q=0.5"), Some("gzip"));
        assert_eq!(choose("*"), Some("br"));
        assert_eq!(choose("x-gzip"), Some("gzip"));
    }

    #[test]
    fn what_is_refused_is_not_sent() {
        assert_eq!(choose("br;q=0, gzip"), Some("gzip"));
        assert_eq!(choose("deflate"), None);
        assert_eq!(choose(""), None);
        assert_eq!(choose("identity, br;q=0.5"), None);
        assert_eq!(encoding(None, 100, [("br", 30)].into_iter()), None);
    }

    #[test]
    fn a_range_is_one_range_of_bytes_that_are_there() {
        for (field, expected) in [
            ("bytes=0-0", Range::Part(0, 0)),
            ("bytes=3-", Range::Part(3, 9)),
            ("bytes=-4", Range::Part(6, 9)),
            ("bytes=-99", Range::Part(0, 9)),
            ("bytes=8-99", Range::Part(8, 9)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=99999999999999999999-", Range::Unsatisfiable),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("pages=1-2", Range::Whole),
            ("bytes=", Range::Whole),
        ] {
            assert_eq!(range(Some(field), 10), expected, "{field}");
        }
        assert_eq!(range(None, 10), Range::Whole);
        assert_eq!(range(Some("bytes=-1"), 0), Range::Unsatisfiable);
    }

    #[test]
    fn tags_lose_their_quotes_and_weak_ones_count_where_they_may() {
        let all = |weak| tags("\"a\", W/\"b\" , c, \"\"", weak).collect::<Vec<_>>();
        assert_eq!(all(true), ["a", "b", ""]);
        assert_eq!(all(false), ["a", ""]);
    }

    proptest! {
        #[test]
        fn a_part_is_within_what_is_there(
            field in prop_oneof![".{0,40}", "bytes=[0-9, -]{0,24}", "bytes=[0-9]{0,21}-[0-9]{0,21}"],
            size in prop_oneof![0_u64..40, Just(u64::MAX)],
        ) {
            match range(Some(&field), size) {
                Range::Part(first, last) => prop_assert!(first <= last && last < size),
                Range::Unsatisfiable | Range::Whole => {}
            }
        }

        #[test]
        fn a_range_that_is_written_is_read(first in 0_u64..1000, more in 0_u64..1000, size in 1_u64..1000) {
            let last = first + more;
            let expected = if first < size { Range::Part(first, last.min(size - 1)) } else { Range::Unsatisfiable };
            prop_assert_eq!(range(Some(&format!("bytes={first}-{last}")), size), expected);
        }

        #[test]
        fn only_what_is_offered_is_chosen(accept in prop_oneof![".{0,60}", "(br|gzip|\\*|identity|;q=[01](\\.[0-9])?|, ){0,12}"]) {
            let chosen = encoding(Some(&accept), 100, [("br", 30), ("gzip", 40)].into_iter());
            prop_assert!(matches!(chosen, None | Some("br" | "gzip")));
        }

        #[test]
        fn a_tag_is_read_without_its_quotes(tag in "[!#-+--~]{0,20}", weak: bool) {
            let field = if weak { format!("W/\"{tag}\"") } else { format!("\"{tag}\"") };
            prop_assert_eq!(tags(&field, true).collect::<Vec<_>>(), [tag.as_str()]);
            prop_assert_eq!(tags(&field, false).count(), usize::from(!weak));
        }
    }
}
