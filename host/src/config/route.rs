//! A route as the configuration writes it.

use http::Method;
use percent_encoding::percent_decode_str;

/// `[METHOD ][scheme://host]/path`.
///
/// Segments of the path are literal, `{name}` for any one, or `*` at the end for the rest, which may be
/// empty: `/*` is everything, `/a/*` is `/a/` and all below but not `/a`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutePattern {
    /// As written.
    pub text: String,
    /// None: any.
    pub method: Option<Method>,
    /// Lower case, without port; none: any.
    pub host: Option<String>,
    /// The path's segments.
    pub segments: Vec<Segment>,
    /// Which segment is the name of a room, for a route that leads to rooms.
    pub room: Option<usize>,
}

/// One part of a path between slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This text, percent-decoded.
    Literal(String),
    /// Any one segment that is not empty.
    Any,
    /// Everything that is left.
    Rest,
}

impl RoutePattern {
    /// Reads a route.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without its full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (method, rest) = match text.split_once(' ') {
            Some((method, rest)) => (Some(parse_method(method)?), rest.trim_start()),
            None => (None, text),
        };
        let (host, path) = match rest.split_once("://") {
            Some((scheme, rest)) => {
                if !matches!(scheme, "http" | "https") {
                    return Err(format!("the scheme of a route is http or https, not `{scheme}`"));
                }
                let slash = rest.find('/').ok_or_else(|| {
                    format!(
                        "the route `{text}` has a host and no path: write `{text}/*` for all of it"
                    )
                })?;
                let (host, path) = rest.split_at(slash);
                (Some(parse_host(host)?), path)
            }
            None => (None, rest),
        };
        let path = path.strip_prefix('/').ok_or_else(|| {
            format!(
                "the path of the route `{text}` must begin with `/`, as \"GET /status\" or \"/*\""
            )
        })?;
        let segments = path
            .split('/')
            .enumerate()
            .map(|(at, segment)| parse_segment(segment, at + 1 == path.split('/').count()))
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), method, host, segments, room: None })
    }

    /// Which segment is the placeholder of this name, when exactly one is.
    #[must_use]
    pub fn placeholder(&self, name: &str) -> Option<usize> {
        let path = match self.text.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => self.text.split_once('/')?.1,
        };
        let is_it = |segment: &str| {
            segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name)
        };
        let mut found = path.split('/').enumerate().filter(|(_, segment)| is_it(segment));
        let (at, _) = found.next()?;
        found.next().is_none().then_some(at)
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"];
    if KNOWN.contains(&text) {
        return Method::from_bytes(text.as_bytes()).map_err(|e| e.to_string());
    }
    Err(format!("`{text}` is not a method of HTTP ({})", KNOWN.join(", ")))
}

fn parse_host(text: &str) -> Result<String, String> {
    if text.contains(':') {
        return Err(format!(
            "a route's host has no port: `{text}` matches whatever port the house is on"
        ));
    }
    let valid = !text.is_empty()
        && text.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    if !valid {
        return Err(format!("`{text}` is not the name of a host"));
    }
    Ok(text.to_ascii_lowercase())
}

fn parse_segment(text: &str, last: bool) -> Result<Segment, String> {
    if text == "*" {
        return if last {
            Ok(Segment::Rest)
        } else {
            Err("`*` stands only at the end of a route; use `{name}` for one segment".into())
        };
    }
    if let Some(name) = text.strip_prefix('{') {
        let name = name.strip_suffix('}').unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`{text}` is not a placeholder: write `{{name}}`"));
        }
        return Ok(Segment::Any);
    }
    if text.contains(['*', '{', '}', '?', '#']) {
        return Err(format!(
            "the segment `{text}` has a character that a path can't have; `*` and `{{name}}` stand alone \
             between slashes"
        ));
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| format!("the segment `{text}` is not UTF-8 once decoded"))?;
    if matches!(decoded.as_ref(), "." | "..") {
        return Err("a route has no `.` or `..` in it".into());
    }
    Ok(Segment::Literal(decoded.into_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let route = RoutePattern::parse("GET https://CDN.example.com/a%20b/{id}/*").unwrap();
        assert_eq!(route.method, Some(Method::GET));
        assert_eq!(route.host.as_deref(), Some("cdn.example.com"));
        assert_eq!(route.segments, [Segment::Literal("a b".into()), Segment::Any, Segment::Rest]);
    }

    #[test]
    fn wrong_routes_say_why() {
        for (text, why) in [
            ("status", "must begin with `/`"),
            ("FETCH /x", "not a method"),
            ("ftp://x/y", "http or https"),
            ("https://example.com", "no path"),
            ("https://example.com:80/x", "no port"),
            ("https://ex_ample/x", "not the name"),
            ("/a/*/b", "only at the end"),
            ("/{}", "placeholder"),
            ("/a*", "stand alone"),
            ("/a/../b", "`..`"),
            ("/%ff", "UTF-8"),
        ] {
            let error = RoutePattern::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            _ = RoutePattern::parse(&text);
        }
    }
}
