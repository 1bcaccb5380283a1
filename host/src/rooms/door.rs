//! The door of a room.
//!
//! Owns what must hold before a WebSocket is let in, and where a client may put its token. Everything is checked
//! before the 101, while there is still a status code to say it with. The dangers that shaped it: a web page
//! elsewhere that opens a socket with its visitor's cookies, and a token that ends up in a log.

use crate::config::{Origins, Rooms};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guesthouse_bindings::rooms::types as wit;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use percent_encoding::percent_decode_str;
use sha1::{Digest, Sha1};

/// Bytes of a room's name.
pub const NAME: usize = 128;
/// What stands before a token among the subprotocols.
const BEARER: &str = "bearer.";
/// What a client accepts that asks for a ticket, and gets.
pub const TICKET: &str = "application/vnd.guesthouse.ticket+json";
/// What a server adds to a client's key to show that it speaks the protocol (RFC 6455 §1.3).
const PROOF: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Fields that are between the client and the house, or hold what the room must not see.
const NOT_FOR_ROOMS: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::TE,
    header::AUTHORIZATION,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// 404
    #[error("A room's name has 1 to 128 bytes, and no control characters.")]
    Name,
    /// 403
    #[error("Pages of this origin may not open WebSockets here.")]
    Origin,
    /// 400
    #[error("This is not a WebSocket handshake: it needs GET, and one valid Sec-WebSocket-Key.")]
    Handshake,
    /// 426
    #[error("The house speaks version 13 of the WebSocket protocol.")]
    Version,
}

/// A client that asks for a WebSocket as the standard says.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`; none over HTTP/2, which needs none.
    pub accept: Option<HeaderValue>,
    /// What the client offered, without its token.
    pub offered: Vec<String>,
}

/// The name of the room in segment `at` of a path, decoded once.
///
/// # Errors
/// [`Closed::Name`]
pub fn name(path: &str, at: usize) -> Result<String, Closed> {
    let segment = path.strip_prefix('/').unwrap_or(path).split('/').nth(at).ok_or(Closed::Name)?;
    let name = percent_decode_str(segment).decode_utf8().map_err(|_| Closed::Name)?;
    is_name(&name).then(|| name.into_owned()).ok_or(Closed::Name)
}

/// Whether a room can be called this.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Moves the client's token to where tokens belong, the `Authorization` header, from where browsers can put it:
/// a subprotocol `bearer.TOKEN`, or `token` in the query. Wherever it was, it is not there any more, so that no
/// log and no room sees it. A token in the header wins.
pub fn lift_token(parts: &mut Parts) {
    let mut token = take_parameter(parts, "token");
    let (tokens, offered): (Vec<String>, Vec<String>) =
        subprotocols(&parts.headers).into_iter().partition(|item| item.starts_with(BEARER));
    if let Some(found) = tokens.first().and_then(|item| item.strip_prefix(BEARER)) {
        token = Some(found.to_owned());
        parts.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if !offered.is_empty()
            && let Ok(value) = HeaderValue::from_str(&offered.join(", "))
        {
            parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    if let Some(token) = token.filter(|token| !token.is_empty())
        && !parts.headers.contains_key(header::AUTHORIZATION)
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        value.set_sensitive(true);
        parts.headers.insert(header::AUTHORIZATION, value);
    }
}

/// Takes a one-time ticket out of the query, where nobody behind the gate is to see it.
pub fn lift_ticket(parts: &mut Parts) -> Option<String> {
    take_parameter(parts, "ticket")
}

/// Takes a parameter out of the query; of several the last counts, and all of them go.
fn take_parameter(parts: &mut Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    let is = |pair: &&str| pair.split('=').next() == Some(name);
    let value = query.split('&').rfind(is)?.split_once('=').map_or("", |(_, value)| value);
    let value = percent_decode_str(value).decode_utf8().ok().map(|value| value.into_owned());
    let kept: Vec<&str> = query.split('&').filter(|pair| !is(pair)).collect();
    let path = parts.uri.path();
    let target =
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = target.parse().ok();
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    value
}

/// Whether a client asks for a ticket: it posts to the room's own address, and accepts nothing else.
#[must_use]
pub fn wants_ticket(parts: &Parts) -> bool {
    let mut accept = parts.headers.get_all(header::ACCEPT).iter();
    parts.method == Method::POST
        && accept.next().is_some_and(|accept| accept.as_bytes() == TICKET.as_bytes())
        && accept.next().is_none()
}

fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Whether a request asks for a WebSocket at all.
#[must_use]
pub fn wants_websocket(parts: &Parts) -> bool {
    if parts.version == Version::HTTP_2 {
        let protocol = parts.extensions.get::<hyper::ext::Protocol>();
        return protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
    }
    has_token(&parts.headers, &header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Checks the handshake and the origin. `host` is the one that the request is for.
///
/// # Errors
/// See [`Closed`].
pub fn check(parts: &Parts, host: &str, rooms: &Rooms) -> Result<Handshake, Closed> {
    let headers = &parts.headers;
    if !may_come_from(headers, host, &rooms.origins) {
        return Err(Closed::Origin);
    }
    let offered = subprotocols(headers);
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(Closed::Version);
    }
    if parts.version == Version::HTTP_2 {
        return Ok(Handshake { accept: None, offered });
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().ok_or(Closed::Handshake)?;
    let whole = STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16);
    if parts.method != Method::GET
        || parts.version != Version::HTTP_11
        || !has_token(headers, &header::CONNECTION, "upgrade")
        || keys.next().is_some()
        || !whole
    {
        return Err(Closed::Handshake);
    }
    let proof = STANDARD.encode(Sha1::new().chain_update(key).chain_update(PROOF).finalize());
    let accept = HeaderValue::from_str(&proof).map_err(|_| Closed::Handshake)?;
    Ok(Handshake { accept: Some(accept), offered })
}

/// A browser sends the origin of the page, and no page can forge it. A program that sends none is no browser.
#[must_use]
pub fn may_come_from(headers: &HeaderMap, host: &str, origins: &Origins) -> bool {
    let mut sent = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = sent.next() else { return true };
    if *origins == Origins::Any {
        return true;
    }
    let Ok(origin) = origin.to_str() else { return false };
    if sent.next().is_some() {
        return false;
    }
    let origin = origin.to_ascii_lowercase();
    match origins {
        Origins::Any => true,
        Origins::Listed(listed) => listed.contains(&origin),
        // Whether it is http or https is for a proxy in front to know.
        Origins::Same => origin.split_once("://").is_some_and(|(scheme, rest)| {
            let port = if scheme == "https" { ":443" } else { ":80" };
            let plain = |text: &str| text.strip_suffix(port).unwrap_or(text).to_owned();
            plain(rest) == plain(&host.to_ascii_lowercase())
        }),
    }
}

/// A request as a room sees it; who sent it is for others to say.
#[must_use]
pub fn to_room(parts: &Parts, body: Vec<u8>) -> wit::Request {
    wit::Request {
        method: parts.method.as_str().to_owned(),
        path_with_query: parts
            .uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned()),
        headers: parts
            .headers
            .iter()
            .filter(|(name, _)| !NOT_FOR_ROOMS.contains(name))
            .map(|(name, value)| wit::Header {
                name: name.as_str().to_owned(),
                value: value.as_bytes().to_vec(),
            })
            .collect(),
        body,
        principal: None,
        peer: None,
    }
}

/// A room's answer as a client sees it; what is no valid field is left out.
#[must_use]
pub fn from_room(response: wit::Response) -> http::Response<crate::body::Body> {
    let mut answer = http::Response::new(crate::body::Body::full(response.body));
    // 101 and other interim answers are not for a room to give.
    *answer.status_mut() = http::StatusCode::from_u16(response.status)
        .ok()
        .filter(|status| status.as_u16() >= 200)
        .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for field in response.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(&field.value))
            && !NOT_FOR_ROOMS.contains(&name)
            && name != header::CONTENT_LENGTH
        {
            answer.headers_mut().append(name, value);
        }
    }
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn names_are_decoded_once_and_bounded() {
        assert_eq!(name("/live/a%20b/x", 1).unwrap(), "a b");
        assert_eq!(name("/live/a%2520b", 1).unwrap(), "a%20b");
        assert_eq!(name("/live/a%2Fb", 1).unwrap(), "a/b");
        let longest = "x".repeat(NAME);
        assert_eq!(name(&format!("/{longest}"), 0).unwrap(), longest);
        for path in ["/live/", "/live", "/live/%00", "/live/%0a", "/live/%ff"] {
            assert_eq!(name(path, 1), Err(Closed::Name), "{path}");
        }
        assert_eq!(name(&format!("/{longest}x"), 0), Err(Closed::Name));
    }

    #[test]
    fn the_handshake_of_the_standard_is_answered() {
        let handshake = check(&parts("/", &GOOD), "h", &Rooms::default()).unwrap();
        assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn handshakes_that_are_none_are_refused() {
        let without = |name: &str, instead: Option<&'static str>| {
            let mut fields: Vec<(&str, &str)> =
                GOOD.iter().copied().filter(|(known, _)| *known != name).collect();
            fields
                .extend(instead.map(|value| (GOOD.iter().find(|g| g.0 == name).unwrap().0, value)));
            check(&parts("/", &fields), "h", &Rooms::default())
        };
        assert_eq!(without("sec-websocket-version", Some("8")), Err(Closed::Version));
        assert_eq!(without("sec-websocket-version", None), Err(Closed::Version));
        assert_eq!(without("sec-websocket-key", None), Err(Closed::Handshake));
        assert_eq!(without("sec-websocket-key", Some("c2hvcnQ=")), Err(Closed::Handshake));
        assert_eq!(without("connection", Some("close")), Err(Closed::Handshake));
    }

    #[test]
    fn a_page_of_another_origin_is_kept_out_unless_it_is_listed() {
        let come = |origin: &str, origins: Origins| {
            let mut fields = GOOD.to_vec();
            fields.push(("origin", origin));
            let rooms = Rooms { origins, ..Rooms::default() };
            check(&parts("/", &fields), "chat.example.com:8787", &rooms).is_ok()
        };
        assert!(come("http://chat.example.com:8787", Origins::Same));
        assert!(come("https://CHAT.example.com:8787", Origins::Same));
        assert!(!come("http://chat.example.com", Origins::Same));
        assert!(!come("http://evil.example.com", Origins::Same));
        assert!(!come("null", Origins::Same));
        assert!(come("null", Origins::Any));
        let listed = || Origins::Listed(vec!["https://app.example.com".into()]);
        assert!(come("https://app.example.com", listed()));
        assert!(!come("http://app.example.com", listed()));
    }

    #[test]
    fn a_token_is_lifted_from_where_browsers_put_it() {
        let mut p = parts("/live/x?a=1&token=s%2Ecret&b=2", &[]);
        lift_token(&mut p);
        assert_eq!(p.uri.to_string(), "/live/x?a=1&b=2");
        assert_eq!(p.headers[header::AUTHORIZATION], "Bearer s.cret");

        let mut p = parts("/live/x", &[("sec-websocket-protocol", "chat, bearer.abc.def, v2")]);
        lift_token(&mut p);
        assert_eq!(p.headers[header::AUTHORIZATION], "Bearer abc.def");
        assert_eq!(p.headers[header::SEC_WEBSOCKET_PROTOCOL], "chat, v2");

        let mut p = parts("/live/x?token=q", &[("authorization", "Bearer header")]);
        lift_token(&mut p);
        assert_eq!(p.headers[header::AUTHORIZATION], "Bearer header");
        assert_eq!(p.uri.to_string(), "/live/x");
    }

    #[test]
    fn a_ticket_is_taken_out_of_the_query_whole() {
        let mut p = parts("/live/x?ticket=old&a=1&ticket=n%65w&ticketx=2", &[]);
        assert_eq!(lift_ticket(&mut p).as_deref(), Some("new"));
        assert_eq!(p.uri.to_string(), "/live/x?a=1&ticketx=2");
        assert_eq!(lift_ticket(&mut p), None);
        let mut p = parts("/live/x?ticket", &[]);
        assert_eq!(lift_ticket(&mut p).as_deref(), Some(""));
        assert_eq!(p.uri.to_string(), "/live/x");
    }

    #[test]
    fn a_room_sees_neither_token_nor_handshake() {
        let mut p = parts("/live/x?token=secret", &GOOD);
        lift_token(&mut p);
        let seen = to_room(&p, Vec::new());
        assert_eq!(seen.path_with_query, "/live/x");
        assert!(seen.headers.is_empty(), "{:?}", seen.headers);
    }

    /// Values that a field of a handshake might have, right ones among them.
    fn values() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let field = |name: &'static str, values: Vec<&'static str>| {
            prop::collection::vec(prop::sample::select(values), 0..=2)
                .prop_map(move |values| values.into_iter().map(move |value| (name, value)))
        };
        let fields = (
            field("connection", vec!["Upgrade", "keep-alive, upgrade", "close", "upgraded", ""]),
            field("upgrade", vec!["websocket", "h2c, WebSocket", "websockets"]),
            field("sec-websocket-version", vec!["13", "8", "13, 8", " 13"]),
            field(
                "sec-websocket-key",
                vec!["dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "", "dGhlIHNhbXBsZSBub25jZQ"],
            ),
            field("origin", vec!["http://h", "https://h:443", "http://evil", "null", "h"]),
            field("sec-websocket-protocol", vec!["chat", "bearer.secret, v2", ",,", "bearer."]),
        );
        fields
            .prop_map(|(a, b, c, d, e, f)| a.chain(b).chain(c).chain(d).chain(e).chain(f).collect())
    }

    proptest! {
        #[test]
        fn a_handshake_is_let_in_if_and_only_if_it_is_one(fields in values()) {
            let mut p = parts("/", &fields);
            lift_token(&mut p);
            let of = |name: &str| -> Vec<&str> {
                fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect()
            };
            let has = |name: &str, token: &str| {
                of(name).iter().flat_map(|value| value.split(','))
                    .any(|item| item.trim().eq_ignore_ascii_case(token))
            };
            let origin = match of("origin").as_slice() {
                [] => true,
                [one] => ["http://h", "https://h:443"].contains(one),
                _ => false,
            };
            // Of several versions the first counts, as it is the one that is asked for.
            let version = of("sec-websocket-version").first().is_some_and(|text| *text == "13");
            let key = of("sec-websocket-key") == ["dGhlIHNhbXBsZSBub25jZQ=="];
            let right = origin && version && key && has("connection", "upgrade");
            let found = check(&p, "h", &Rooms::default());
            prop_assert_eq!(found.is_ok(), right, "{:?}", found);
            prop_assert_eq!(wants_websocket(&p), has("upgrade", "websocket"));
            if let Ok(handshake) = found {
                prop_assert!(!handshake.offered.iter().any(|item| item.starts_with(BEARER)));
                prop_assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            }
            let seen = to_room(&p, Vec::new());
            let hidden = seen.headers.iter().any(|field| {
                field.name == "authorization" || field.value.windows(6).any(|six| six == b"secret")
            });
            prop_assert!(!hidden, "{:?}", seen.headers);
        }

        #[test]
        fn no_field_makes_it_panic(values in prop::collection::vec(any::<Vec<u8>>(), 6)) {
            let names = [
                header::CONNECTION,
                header::UPGRADE,
                header::ORIGIN,
                header::SEC_WEBSOCKET_KEY,
                header::SEC_WEBSOCKET_VERSION,
                header::SEC_WEBSOCKET_PROTOCOL,
            ];
            let mut p = parts("/live/x", &[]);
            for (name, value) in names.into_iter().zip(values) {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    p.headers.append(name, value);
                }
            }
            lift_token(&mut p);
            _ = check(&p, "h", &Rooms::default());
            _ = (wants_websocket(&p), wants_ticket(&p), to_room(&p, Vec::new()));
        }

        #[test]
        fn no_target_makes_it_panic(path in "/[a-z%0-9/]{0,40}", query in "[a-z=&%0-9]{0,40}", at in 0..5_usize) {
            if let Ok(uri) = format!("{path}?{query}").parse::<Uri>() {
                let mut p = parts("/", &[]);
                p.uri = uri;
                lift_token(&mut p);
                prop_assert!(!p.uri.query().unwrap_or("").split('&').any(|pair| pair.starts_with("token=")));
                _ = name(p.uri.path(), at);
            }
        }
    }
}
