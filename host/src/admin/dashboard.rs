//! The operator's page, at `/` of the admin door.
//!
//! Owns one document that needs nothing else: its style and its script are in it, and what it shows it asks of the
//! API with the token that the operator gives it. The page itself has no data and is the same for everybody. The
//! danger that shaped it: names of rooms and users come from clients, and a page that made markup of them would act
//! with the operator's token. So the script makes nothing but text, and the browser is told to run nothing else.

use crate::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const PAGE: &str = include_str!("dashboard/page.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| PAGE.replace("/* style */", STYLE).replace("/* script */", SCRIPT));

/// What the browser may run and load: the two texts above, by their digests, and the API of this door.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        digest(STYLE),
        digest(SCRIPT)
    );
    HeaderValue::from_str(&policy).ok()
});

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The page.
pub(super) fn page() -> Response<Body> {
    let mut response = Response::new(Body::from(DOCUMENT.clone()));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
        // Where the policy below could not be made, nothing runs at all.
        (CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(policy) = POLICY.as_ref() {
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_its_style_and_its_script_once_and_asks_for_nothing_else() {
        assert_eq!(DOCUMENT.matches(SCRIPT).count(), 1);
        assert_eq!(DOCUMENT.matches(STYLE).count(), 1);
        for foreign in ["http://", "https://", "src=", "innerHTML", "eval(", "style=\"", "onclick"]
        {
            assert!(!DOCUMENT.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_browser_runs_nothing_but_what_is_in_the_page() {
        let response = page();
        let policy = response.headers().get(CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
