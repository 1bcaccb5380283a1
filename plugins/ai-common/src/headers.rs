//! What crosses from a client to an upstream and back, and what must not.
//!
//! The dangers that shaped it: a client's session cookie in a foreign company's log, a client that brings a
//! key or an organisation of its own beside the house's, and an upstream that sets cookies for the house.

use guesthouse_sdk::Response;

/// Not sent upstream: credentials and cookies, what belongs to the connection or to the way here, and what
/// would choose whose account is charged.
const TO_UPSTREAM: [&str; 24] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
    "http2-settings",
    "expect",
    "accept-encoding",
    "forwarded",
    "via",
    "x-real-ip",
    "x-request-id",
    "openai-organization",
    "openai-project",
    "origin",
    "referer",
];
/// The same by how they begin.
const TO_UPSTREAM_PREFIXES: [&str; 5] =
    ["x-forwarded-", "cf-", "sec-", "x-guesthouse-", "access-control-"];
/// Not handed to the client: what binds the upstream's own domain, and what the house says itself.
const TO_CLIENT: [&str; 14] = [
    "set-cookie",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "alt-svc",
    "strict-transport-security",
    "server",
    "via",
    "x-request-id",
    "report-to",
    "nel",
];

/// The fields of a client's request that go to the upstream.
pub(crate) fn to_upstream(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    // What `Connection` names belongs to the connection, too.
    let named = named_by_connection(&headers);
    let goes = |(name, _): &(String, String)| {
        !TO_UPSTREAM.contains(&name.as_str())
            && !TO_UPSTREAM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !named.contains(name)
    };
    headers.into_iter().filter(goes).collect()
}

/// The fields of an upstream's answer that go to the client. The upstream's request id gets a name of its
/// own, since the house's has the usual one.
pub(crate) fn to_client(headers: &[(String, String)]) -> Vec<(String, String)> {
    let named = named_by_connection(headers);
    let mut passed = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if name == "x-request-id" {
            passed.push(("x-upstream-request-id".to_owned(), value.clone()));
        } else if !TO_CLIENT.contains(&name.as_str())
            && !name.starts_with("access-control-")
            && !named.contains(name)
        {
            passed.push((name.clone(), value.clone()));
        }
    }
    passed
}

fn named_by_connection(headers: &[(String, String)]) -> Vec<String> {
    headers
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// Lets pages of other origins read the answer, without credentials of the browser.
#[must_use]
pub fn with_cors(response: Response) -> Response {
    response.with("access-control-allow-origin", "*").with("access-control-expose-headers", "*")
}

/// The answer to OPTIONS.
#[must_use]
pub fn preflight(methods: &str) -> Response {
    with_cors(Response::new(204))
        .with("access-control-allow-methods", methods)
        .with("access-control-allow-headers", "*, Authorization")
        .with("access-control-max-age", "86400")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn credentials_cookies_and_connection_fields_never_reach_the_upstream() {
        let sent = to_upstream(fields(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "__session=1"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("x-forwarded-for", "10.0.0.1"),
            ("openai-organization", "org-client"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("anthropic-beta", "x"),
            ("x-stainless-lang", "js"),
            ("idempotency-key", "k"),
        ]));
        let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["content-type", "anthropic-beta", "x-stainless-lang", "idempotency-key"]
        );
    }

    #[test]
    fn rate_limits_and_ids_reach_the_client_and_cookies_do_not() {
        let passed = to_client(&fields(&[
            ("retry-after", "7"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-request-id", "req_1"),
            ("request-id", "req_2"),
            ("set-cookie", "__cf_bm=1"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "https://x"),
            ("content-type", "text/event-stream"),
        ]));
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "retry-after",
                "x-ratelimit-remaining-requests",
                "x-upstream-request-id",
                "request-id",
                "content-type"
            ]
        );
    }
}
