//! What a client shows.
//!
//! Owns which parts of a request the verifier gets to see, the digest under which its answer is kept, and
//! the fields that no client may send at all.

use super::Credentials;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// What a client showed, and its digest.
pub struct Presented {
    /// For the verifier.
    pub credentials: Credentials,
    /// SHA-256 of everything in it.
    pub digest: [u8; 32],
}

impl Presented {
    /// Reads a request; none when it shows nothing. `cookies` are the names of `[auth] cookies`.
    #[must_use]
    pub fn of(request: &Parts, cookies: &[String]) -> Option<Self> {
        let headers = &request.headers;
        let authorization = only(headers, &AUTHORIZATION);
        let cookies = named(headers, cookies);
        // Two fields where there must be one are shown as none, and are something all the same: the
        // client is asked who it is, and its answer is not valid.
        if !headers.contains_key(AUTHORIZATION) && cookies.is_empty() {
            return None;
        }
        let host = request
            .uri
            .authority()
            .map(|authority| authority.as_str().to_owned())
            .or_else(|| only(headers, &HOST))
            .unwrap_or_default();
        let credentials =
            Credentials { authorization, cookies, host, origin: only(headers, &ORIGIN) };
        let digest = digest(&credentials);
        Some(Self { credentials, digest })
    }
}

/// The field of this name, if there is exactly one and it is text.
fn only(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::to_owned)
}

/// The cookies of these names, in their order.
fn named(headers: &HeaderMap, names: &[String]) -> Vec<(String, String)> {
    let wanted = |name: &str| {
        names.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    };
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Each part with its length in front, so that no two credentials share the bytes.
fn digest(credentials: &Credentials) -> [u8; 32] {
    let Credentials { authorization, cookies, host, origin } = credentials;
    let mut hasher = Sha256::new();
    let mut add = |text: Option<&str>| {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hasher.update(length.to_le_bytes());
        hasher.update(text.unwrap_or_default());
    };
    add(authorization.as_deref());
    add(Some(host));
    add(origin.as_deref());
    for (name, value) in cookies {
        add(Some(name));
        add(Some(value));
    }
    hasher.finalize().into()
}

/// Names by which proxies and frameworks hand an identity on. A client that sends one forges it: what
/// identifies a caller here is `guesthouse:identity` and nothing else. Underscores count as hyphens,
/// since some frameworks can't tell them apart.
const FORGED: [&str; 4] =
    ["remote-user", "x-remote-user", "x-forwarded-user", "x-ms-client-principal"];
const FORGED_STARTS: [&str; 11] = [
    "guesthouse-",
    "x-guesthouse-",
    "x-auth-request-",
    "x-authenticated-",
    "x-clerk-auth-",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-goog-authenticated-user-",
    "x-webauth-",
];

/// Takes off every field by which a client could pass for someone.
pub fn strip_forged(headers: &mut HeaderMap<HeaderValue>) {
    let forged = |name: &HeaderName| {
        let name = name.as_str();
        if !matches!(name.as_bytes().first(), Some(b'x' | b'g' | b'r')) {
            return false;
        }
        let is = |name: &str| {
            FORGED.contains(&name) || FORGED_STARTS.iter().any(|start| name.starts_with(start))
        };
        if name.contains('_') { is(&name.replace('_', "-")) } else { is(name) }
    };
    // Nearly no request has one, and looking costs less than collecting.
    if !headers.keys().any(forged) {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(|name| forged(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn presented(headers: &[(&str, &str)]) -> Option<Presented> {
        let names = ["__session", "__session_*"].map(str::to_owned);
        Presented::of(&parts(headers), &names)
    }

    #[test]
    fn who_shows_nothing_is_not_asked_about() {
        assert!(presented(&[]).is_none());
        assert!(presented(&[("cookie", "theme=dark; __sessions=x")]).is_none());
    }

    #[test]
    fn only_the_cookies_of_the_configuration_are_shown() {
        let shown = presented(&[
            ("cookie", "a=b; __session=one;__session_x=two"),
            ("cookie", "__session=three=3; __host"),
        ]);
        let cookies = shown.unwrap().credentials.cookies;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected =
            [pair("__session", "one"), pair("__session_x", "two"), pair("__session", "three=3")];
        assert_eq!(cookies, expected);
    }

    #[test]
    fn a_field_that_was_sent_twice_is_left_out_and_asked_about_all_the_same() {
        let twice = presented(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(twice.unwrap().credentials.authorization, None);
    }

    #[test]
    fn the_digest_depends_on_every_part_and_on_where_it_stands() {
        let all = [
            presented(&[("authorization", "Bearer a")]),
            presented(&[("authorization", "Bearer a"), ("origin", "https://a")]),
            presented(&[("authorization", "Bearer a"), ("host", "https://a")]),
            presented(&[("cookie", "__session=a")]),
            presented(&[("cookie", "__session_=a")]),
            presented(&[("cookie", "__session=; __session=a")]),
            presented(&[("cookie", "__session=a; __session=")]),
        ];
        let digests: std::collections::BTreeSet<[u8; 32]> =
            all.into_iter().map(|p| p.unwrap().digest).collect();
        assert_eq!(digests.len(), 7);
    }

    #[test]
    fn fields_by_which_a_client_could_pass_for_someone_are_taken_off() {
        let mut headers = parts(&[
            ("x-guesthouse-subject", "root"),
            ("Guesthouse-Subject", "root"),
            ("x_forwarded_user", "root"),
            ("Remote-User", "root"),
            ("x-clerk-auth-status", "signed-in"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-request-id", "1"),
            ("accept", "*/*"),
        ])
        .headers;
        strip_forged(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for", "x-request-id"]);
    }
}
