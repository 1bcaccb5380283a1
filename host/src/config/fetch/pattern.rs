//! Where a grant lets a plugin go.
//!
//! Owns the comparison of a request's URL with a grant: scheme, host with one leading `*.`, port, and a path
//! prefix that ends between segments. The danger that shaped it is a path that the server reads in another
//! way than we do: under a prefix, whatever could leave it after one more decoding is refused.

use super::host::Host;
use percent_encoding::percent_decode_str;
use std::fmt;

/// What a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPattern {
    /// `https`, else `http`.
    pub tls: bool,
    /// Also every name below `host`, and not `host` itself.
    pub wildcard: bool,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// Decoded segments that the path begins with.
    pub prefix: Vec<Vec<u8>>,
}

/// Where a request goes, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https`, else `http`.
    pub tls: bool,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl UrlPattern {
    /// Reads `https://*.example.com:8443/v1/`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without its full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(format!(
                "`{text}` is not a destination: begin with https:// (or http://), as \
                 \"https://api.example.com/v1/\""
            ));
        };
        if rest.contains(['?', '#']) {
            return Err(format!(
                "`{text}` can't have a query or fragment: a grant ends with a path"
            ));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(format!(
                "`{text}` can't have a user or password: use `inject` with an authorization header"
            ));
        }
        let (wildcard, authority) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        if authority.contains('*') {
            return Err(format!("`{text}` may have one `*.`, at the beginning of its host"));
        }
        let (host, port) = split_port(authority, tls).map_err(|why| format!("`{text}`: {why}"))?;
        let host = Host::parse(host).map_err(|why| format!("the host of `{text}` {why}"))?;
        if wildcard && !matches!(&host, Host::Name(name) if name.contains('.')) {
            return Err(format!(
                "the wildcard of `{text}` must stand before a name of two parts or more, as \
                 \"*.example.com\""
            ));
        }
        let prefix = segments(path)
            .ok_or_else(|| format!("the path of `{text}` has segments that can't be compared"))?;
        Ok(Self { tls, wildcard, host, port, prefix })
    }

    /// Whether a request to this target and path is granted.
    #[must_use]
    pub fn matches(&self, target: &Target, path: &str) -> bool {
        self.tls == target.tls
            && self.port == target.port
            && self.matches_host(&target.host)
            && self.matches_path(path)
    }

    fn matches_host(&self, host: &Host) -> bool {
        if !self.wildcard {
            return self.host == *host;
        }
        let (Host::Name(base), Host::Name(name)) = (&self.host, host) else { return false };
        name.strip_suffix(base.as_str())
            .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
    }

    fn matches_path(&self, path: &str) -> bool {
        if self.prefix.is_empty() {
            return true;
        }
        segments(path).is_some_and(|segments| segments.starts_with(&self.prefix))
    }

    /// How narrow it is: of several that match, the narrowest decides.
    #[must_use]
    pub fn rank(&self) -> (bool, usize, usize) {
        let name = match &self.host {
            Host::Name(name) => name.len(),
            Host::Address(_) => usize::MAX,
        };
        (!self.wildcard, name, self.prefix.len())
    }
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{scheme}://{star}{}", self.host)?;
        if self.port != default_port(self.tls) {
            write!(f, ":{}", self.port)?;
        }
        for segment in &self.prefix {
            write!(f, "/{}", String::from_utf8_lossy(segment))?;
        }
        f.write_str("/")
    }
}

impl Target {
    /// Where a URI leads.
    ///
    /// # Errors
    /// Why it leads nowhere, as the end of a sentence.
    pub fn of(uri: &http::Uri) -> Result<Self, &'static str> {
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("has no scheme that can be granted"),
        };
        let authority = uri.authority().ok_or("has no host")?.as_str();
        if authority.contains('@') {
            return Err("has a user or password");
        }
        let (host, port) = split_port(authority, tls)?;
        Ok(Self { tls, host: Host::parse(host)?, port })
    }

    /// `host:port`, without the port that the scheme has anyway.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn split_port(authority: &str, tls: bool) -> Result<(&str, u16), &'static str> {
    // The colons of an IPv6 address stand before its bracket.
    let after_address = authority.rfind(']').unwrap_or(0);
    let Some(colon) = authority.rfind(':').filter(|at| *at >= after_address) else {
        return Ok((authority, default_port(tls)));
    };
    let (host, port) = authority.split_at(colon);
    let port = port.trim_start_matches(':');
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the port is not a number from 1 to 65535");
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

/// A path's decoded segments without empty ones at the end. None when some server could read it as another
/// path: dot segments, also encoded or with parameters, slashes and backslashes within a segment, control
/// characters, an encoding that is not one.
fn segments(path: &str) -> Option<Vec<Vec<u8>>> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut segments = Vec::new();
    for raw in path.strip_prefix('/').unwrap_or(path).split('/') {
        segments.push(segment(raw)?);
    }
    while segments.last().is_some_and(Vec::is_empty) {
        segments.pop();
    }
    Some(segments)
}

fn segment(raw: &str) -> Option<Vec<u8>> {
    let mut text = raw.as_bytes().to_vec();
    let mut decoded_once = None;
    // Servers behind servers decode more than once.
    for _ in 0..3 {
        if !is_plain(&text) {
            return None;
        }
        let next: Vec<u8> = percent_decode_str(std::str::from_utf8(&text).ok()?).collect();
        if next == text {
            break;
        }
        decoded_once.get_or_insert_with(|| next.clone());
        text = next;
    }
    if !is_plain(&text) {
        return None;
    }
    decoded_once.or(Some(text))
}

/// Whether a segment stays a segment in everyone's eyes.
fn is_plain(text: &[u8]) -> bool {
    let name = text.split(|byte| *byte == b';').next().unwrap_or_default();
    name != b"."
        && name != b".."
        && !text.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn granted(grant: &str, url: &str) -> bool {
        let uri: http::Uri = url.parse().unwrap();
        let Ok(target) = Target::of(&uri) else { return false };
        UrlPattern::parse(grant).unwrap().matches(&target, uri.path())
    }

    #[test]
    fn scheme_host_port_and_prefix_all_count() {
        let grant = "https://api.example.com:8443/v1/";
        for (url, expected) in [
            ("https://api.example.com:8443/v1/chat", true),
            ("https://API.example.com:8443/v1", true),
            ("https://api.example.com:8443/v1/?q=../x", true),
            ("https://api.example.com:8443/v1/a%20b", true),
            ("https://api.example.com:8443/%76%31/x", true),
            ("http://api.example.com:8443/v1/chat", false),
            ("https://api.example.com/v1/chat", false),
            ("https://api.example.com:8444/v1/chat", false),
            ("https://example.com:8443/v1/chat", false),
            ("https://api.example.com.evil.example:8443/v1/chat", false),
            ("https://api.example.com:8443/v10/chat", false),
            ("https://api.example.com:8443/", false),
            ("https://api.example.com:8443//v1/chat", false),
            ("https://api.example.com:8443/v1/../admin", false),
            ("https://api.example.com:8443/v1/%2e%2e/admin", false),
            ("https://api.example.com:8443/v1/%252e%252e/admin", false),
            ("https://api.example.com:8443/v1/..;x=1/admin", false),
            ("https://api.example.com:8443/v1/..%2fadmin", false),
            ("https://api.example.com:8443/v1/..%5cadmin", false),
            ("https://api.example.com:8443/v1/%00/admin", false),
        ] {
            assert_eq!(granted(grant, url), expected, "{url}");
        }
    }

    #[test]
    fn the_port_of_the_scheme_need_not_be_written() {
        assert!(granted("https://a.example", "https://a.example:443/x"));
        assert!(granted("https://a.example:443", "https://a.example/x"));
        assert!(granted("http://a.example", "http://a.example:80"));
    }

    #[test]
    fn a_wildcard_is_for_names_below() {
        let grant = "https://*.example.com";
        assert!(granted(grant, "https://a.example.com/"));
        assert!(granted(grant, "https://a.b.example.com/"));
        assert!(!granted(grant, "https://example.com/"));
        assert!(!granted(grant, "https://badexample.com/"));
        assert!(!granted(grant, "https://example.com.evil.example/"));
    }

    #[test]
    fn users_and_odd_ports_lead_nowhere() {
        for url in
            ["https://user@a.example/", "https://a.example@evil.example/", "https://a.example:0/"]
        {
            let uri: http::Uri = url.parse().unwrap();
            assert!(Target::of(&uri).is_err(), "{url}");
        }
    }

    #[test]
    fn a_wrong_grant_says_what_is_wrong() {
        for (text, expected) in [
            ("api.example.com", "begin with https://"),
            ("ftp://a.example", "begin with https://"),
            ("https://a.example/?x", "query"),
            ("https://u:p@a.example", "inject"),
            ("https://a.*.example", "one `*.`"),
            ("https://*.*.example", "one `*.`"),
            ("https://*.com", "two parts"),
            ("https://*.127.0.0.1", "two parts"),
            ("https://a.example:port", "port"),
            ("https://0x7f.1", "number"),
            ("https://bücher.example", "xn--"),
            ("https://a.example/a/../b", "compared"),
        ] {
            let error = UrlPattern::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        /// Whatever a path is made of: if it is granted, no reading of it leaves the prefix.
        #[test]
        fn no_reading_of_a_granted_path_leaves_the_prefix(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("/"), Just("."), Just(".."), Just("%2e"), Just("%2E"), Just("%2f"), Just("%5c"),
                    Just("\\"), Just("%252e"), Just(";"), Just("v1"), Just("a"), Just("%25"), Just("2e"),
                ],
                0..14,
            )
        ) {
            let path = format!("/v1/{}", pieces.concat());
            let pattern = UrlPattern::parse("https://a.example/v1/").unwrap();
            if pattern.matches_path(&path) {
                let mut text = path.into_bytes();
                for _ in 0..3 {
                    let mut depth = 0i32;
                    let normal = String::from_utf8_lossy(&text).replace('\\', "/");
                    for segment in normal.split('/').skip(1) {
                        match segment.split(';').next().unwrap() {
                            ".." => depth -= 1,
                            "." | "" => {}
                            _ => depth += 1,
                        }
                        prop_assert!(depth >= 0);
                    }
                    prop_assert!(depth >= 1);
                    text = percent_decode_str(std::str::from_utf8(&text).unwrap()).collect();
                }
            }
        }
    }
}
