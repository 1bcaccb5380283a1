//! Credentials for TURN relays, as `RTCPeerConnection` takes them.
//!
//! `GET /api/my-turn` is `{"iceServers": […]}`; with `?shape=object` it is one object with all addresses, as old
//! clients read it. Where the relay is, is a matter of settings (`settings.rs`): the house's own, any coturn, or
//! Cloudflare's. The danger that shaped it: a credential is a way to spend someone's bandwidth, so that none is
//! ever kept in a cache, none lives for more than a day, and no name of a caller is in it, since it can be read
//! on the wire and in logs.

mod answer;
mod cloudflare;
mod credential;
mod settings;

pub use answer::{IceServer, Shape, answer, ice_servers};
pub use credential::{Credential, credential, opaque_user};
pub use settings::{Provider, Settings};

use guesthouse_sdk::{Handler, Request, Response, config, identity, secrets};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// The component.
pub struct Turn;

guesthouse_sdk::export!(Turn);

/// Why there is no credential: the status, and what the client is told.
pub(crate) struct Failure(pub(crate) u16, pub(crate) &'static str);

impl Handler for Turn {
    fn handle(request: Request) -> Response {
        let settings = Settings::read(&|key| config::get(key));
        let origin = request.header("origin");
        let response = match (request.method().as_str(), &settings) {
            (_, Err(why)) => {
                eprintln!("no credentials are given: {why}");
                failure(&MISCONFIGURED)
            }
            ("OPTIONS", _) => Response::new(204)
                .with("access-control-allow-methods", "GET, HEAD, OPTIONS")
                .with("access-control-allow-headers", "Authorization")
                .with("access-control-max-age", "86400"),
            ("GET" | "HEAD", Ok(settings)) => {
                let shape = Shape::of(request.query().unwrap_or_default());
                match servers(settings) {
                    Ok(servers) => Response::json(200, answer(&servers, shape).to_string()),
                    Err(why) => failure(&why),
                }
            }
            _ => failure(&Failure(405, "This path takes GET.")).with("allow", "GET, HEAD, OPTIONS"),
        };
        let mut response = response.with("cache-control", "no-store");
        if let Ok(settings) = &settings {
            response.headers.extend(settings.cors(origin.as_deref()));
        }
        response
    }
}

const MISCONFIGURED: Failure =
    Failure(503, "This endpoint is not set up; the log of the house says what is missing.");

fn failure(why: &Failure) -> Response {
    Response::json(why.0, json!({ "error": why.1 }).to_string())
}

/// The servers for whoever is calling.
fn servers(settings: &Settings) -> Result<Vec<IceServer>, Failure> {
    match &settings.provider {
        Provider::Secret { urls, secret } => {
            let Some(text) = secrets::get(secret) else {
                eprintln!(
                    "no credentials are given: the secret `{secret}` is not granted: write \
                     secrets = [\"{secret}\"], or name another one with `secret` in `config`"
                );
                return Err(MISCONFIGURED);
            };
            let caller = identity::caller();
            let user = match &caller {
                Some(caller) => opaque_user(
                    &text,
                    caller.issuer.as_deref().unwrap_or_default(),
                    &caller.subject,
                ),
                None => credential::anonymous_user(),
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let expiry = now.saturating_add(settings.ttl).as_secs();
            Ok(ice_servers(urls, &credential(&text, expiry, &user)))
        }
        Provider::Cloudflare { base, key } => cloudflare::servers(base, key, settings.ttl),
    }
}
