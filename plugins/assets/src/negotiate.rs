//! Choosing among compressed variants (RFC 9110 §12.5.3).

/// The best variant that the client takes: the smallest of those with the highest weight. None: the plain
/// bytes, which are also the answer when the client refuses everything.
pub(crate) fn encoding<'a>(
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
