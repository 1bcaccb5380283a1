//! A browser's question before it asks (CORS preflight, https://fetch.spec.whatwg.org/#cors-preflight-fetch).
//!
//! Owns what such a question is, and what of its answer goes back. Browsers send it without credentials, so a plugin
//! that requires a caller would never be called across origins. With `preflight = true` the question reaches the
//! plugin without a caller. The danger that shaped it: a plugin that looks at no method, and takes what looks like a
//! preflight for any other request. So it gets no body, and nothing of its answer but what a browser reads of one.

use super::failure::OfHouse;
use crate::body::{Body, declared_length};
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    ALLOW, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, VARY,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};

/// What a page may read of a refusal, beside what every page may.
const READABLE: HeaderValue = HeaderValue::from_static(
    "www-authenticate, retry-after, ratelimit, ratelimit-policy, x-request-id",
);

/// Whether this is one: the method, the two fields that every browser sends with it, and no body.
pub(super) fn is_one(request: &Parts) -> bool {
    let headers = &request.headers;
    let once = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|value| !value.is_empty()) && values.next().is_none()
    };
    request.method == Method::OPTIONS
        && once(&ORIGIN)
        && once(&ACCESS_CONTROL_REQUEST_METHOD)
        && declared_length(headers).is_none_or(|length| length == 0)
        && !headers.contains_key(TRANSFER_ENCODING)
}

/// What a browser reads of the answer: the status and these fields.
pub(super) fn answer(response: Response<Body>) -> Response<Body> {
    let (mut parts, _) = response.into_parts();
    let (all, kept) = (std::mem::take(&mut parts.headers), &mut parts.headers);
    for (name, value) in &all {
        let is_cors = name.as_str().starts_with("access-control-");
        if is_cors || [VARY, ALLOW, RETRY_AFTER].contains(name) {
            kept.append(name, value.clone());
        }
    }
    Response::from_parts(parts, Body::full(bytes::Bytes::new()))
}

/// Lets a page of any origin read what the house says itself: its request was let through to be asked who calls, and a
/// page that can't tell 401 from 413 or 429 can neither sign in anew, nor send less, nor wait. It says nothing that
/// depends on cookies, and a browser gives it to no page that sent some. Whatever a plugin says stays as it is.
pub(super) fn make_readable(response: &mut Response<Body>) {
    if response.extensions().get::<OfHouse>().is_some() {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REAL: [(&str, &str); 2] =
        [("origin", "https://app.example"), ("access-control-request-method", "PUT")];

    fn is_preflight(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_one(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn it_has_the_method_and_both_fields_once_and_no_body() {
        let with = |more: (&'static str, &'static str)| [REAL[0], REAL[1], more];
        assert!(is_preflight("OPTIONS", &REAL));
        assert!(is_preflight("OPTIONS", &with(("access-control-request-headers", "x"))));
        assert!(is_preflight("OPTIONS", &with(("content-length", "0"))));
        for method in ["GET", "POST", "HEAD", "options"] {
            assert!(!is_preflight(method, &REAL), "{method}");
        }
        assert!(!is_preflight("OPTIONS", &[]));
        assert!(!is_preflight("OPTIONS", &REAL[..1]));
        assert!(!is_preflight("OPTIONS", &REAL[1..]));
        for more in [
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("origin", "https://other.example"),
            ("access-control-request-method", "GET"),
        ] {
            assert!(!is_preflight("OPTIONS", &with(more)), "{more:?}");
        }
        assert!(!is_preflight("OPTIONS", &[REAL[0], ("access-control-request-method", "")]));
    }

    #[test]
    fn of_the_answer_only_what_a_browser_reads_goes_back() {
        let given = Response::builder()
            .status(204)
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-headers", "authorization")
            .header("vary", "origin")
            .header("set-cookie", "a=b")
            .header("x-secret", "1")
            .header("content-length", "6")
            .body(Body::from("secret"))
            .unwrap();
        let kept = answer(given);
        let names: Vec<_> = kept.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["access-control-allow-origin", "access-control-allow-headers", "vary"]);
        assert_eq!(kept.status(), 204);
        assert_eq!(http_body::Body::size_hint(kept.body()).exact(), Some(0));
    }
}
