//! The component: the verifier, and the endpoint.

use crate::policy::{No, Policy, Verified};
use crate::proof::{self, Found};
use guesthouse_sdk::bindings::wasi::config::store;
use guesthouse_sdk::{Body, Handler, Request, Response};
use std::cell::RefCell;

#[allow(missing_docs, unsafe_code, clippy::all, clippy::pedantic, reason = "generated")]
mod verifier {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "guesthouse:plugin/called",
        generate_all,
    });
}

use verifier::exports::guesthouse::auth::verifier::{
    Credentials, Guest, Principal, Rejection, RejectionKind,
};

struct Auth;

guesthouse_sdk::export!(Auth);
#[allow(unsafe_code, reason = "generated: the entry points of the component")]
const _: () = {
    verifier::export!(Auth with_types_in verifier);
};

thread_local! {
    /// The settings do not change in the life of an instance.
    static POLICY: RefCell<Option<Result<Policy, ()>>> = const { RefCell::new(None) };
}

/// What was found out about a client.
enum Outcome {
    Known(Box<Verified>),
    Nothing,
    No(No),
}

fn examine(authorization: Option<&str>, cookies: &[(String, String)]) -> Outcome {
    POLICY.with_borrow_mut(|policy| {
        let policy = policy.get_or_insert_with(|| {
            let settings = store::get_all().unwrap_or_default();
            Policy::new(&settings).map_err(|why| eprintln!("nobody is let in: {why}"))
        });
        let Ok(policy) = policy else { return Outcome::No(No::Unavailable("misconfigured")) };
        let now = guesthouse_sdk::now_ms();
        let token = match proof::find(authorization, cookies, &policy.places, now / 1000) {
            Found::Token(token) => token,
            Found::Rubbish => return Outcome::No(No::Invalid("token-invalid")),
            Found::Nothing => return Outcome::Nothing,
        };
        let times = policy.times;
        let mut find = |uri: &str, kid: &str| crate::issuer::find(uri, kid, times);
        match policy.verify(&token, now, &mut find) {
            Ok(verified) => Outcome::Known(Box::new(verified)),
            Err(no) => Outcome::No(no),
        }
    })
}

impl Guest for Auth {
    fn verify(credentials: Credentials) -> Result<Principal, Rejection> {
        let reject = |kind, reason: &str| Err(Rejection { kind, reason: reason.to_owned() });
        match examine(credentials.authorization.as_deref(), &credentials.cookies) {
            Outcome::Known(verified) => Ok(Principal {
                subject: verified.text_claim("sub").unwrap_or_default(),
                issuer: verified.text_claim("iss"),
                session: verified.text_claim("sid"),
                expires_at: crate::rules::expires_at(&verified.claims),
                claims_json: verified.text,
            }),
            Outcome::Nothing => reject(RejectionKind::Missing, "token-missing"),
            Outcome::No(No::Invalid(reason)) => reject(RejectionKind::Invalid, reason),
            Outcome::No(No::Unavailable(reason)) => reject(RejectionKind::Unavailable, reason),
        }
    }
}

impl Handler for Auth {
    fn handle(request: Request) -> Response {
        let method = request.method();
        if method != "GET" && method != "HEAD" {
            return Response::text(405, "Only GET is known here.\n").with("allow", "GET, HEAD");
        }
        let fields = request.headers("authorization");
        let cookies = proof::cookies(&request.headers("cookie"));
        // Two fields where there must be one are no proof of anything.
        let authorization = match fields.as_slice() {
            [] => None,
            [one] => Some(one.as_str()),
            _ => Some(""),
        };
        let json = |status, text: String| {
            Response::new(status)
                .with("content-type", "application/json")
                .with("cache-control", "private, no-store")
                .with("vary", "authorization, cookie")
                .body(Body::Bytes(text.into_bytes()))
        };
        let no = |error: &str, reason: &str| {
            serde_json::json!({ "error": error, "reason": reason }).to_string() + "\n"
        };
        match examine(authorization, &cookies) {
            Outcome::Known(verified) => json(200, verified.text + "\n"),
            Outcome::Nothing => json(401, no("unauthorized", "token-missing"))
                .with("www-authenticate", "Bearer realm=\"guesthouse\""),
            Outcome::No(No::Invalid(reason)) => json(401, no("unauthorized", reason)).with(
                "www-authenticate",
                format!(
                    "Bearer realm=\"guesthouse\", error=\"invalid_token\", error_description=\"{reason}\""
                ),
            ),
            Outcome::No(No::Unavailable(reason)) => {
                json(503, no("unavailable", reason)).with("retry-after", "1")
            }
        }
    }
}
