//! Header fields that belong to one connection (RFC 9110 §7.6.1), and the name of the one that the house adds to
//! every message.
//!
//! Owns what a message leaves behind when it goes on: from a client to a plugin, from a plugin to another
//! server, and back. A field that `Connection` names was meant for the neighbour alone; passed on, it lets a
//! client speak to whoever is behind in the neighbour's name.

use http::{HeaderMap, HeaderName, header};

/// The id by which a request is found again in the log, the answer and the plugin.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What never goes on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Takes off what `Connection` names.
pub fn strip_named(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        // `Connection: host` would take away what the request is about (RFC 9110 allows no such thing).
        if name != header::HOST && name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

/// Takes off everything that is not passed on.
pub fn strip(headers: &mut HeaderMap) {
    strip_named(headers);
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_names_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private, host"),
            ("x-private", "1"),
            ("host", "example.com"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("x-public", "2"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "host", "x-public"]);
    }
}
