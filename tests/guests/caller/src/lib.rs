//! Says who is calling and what they may spend, as the host told it.

use guesthouse_sdk::{Body, Handler, Request, Response, budget, identity};

struct Caller;

guesthouse_sdk::export!(Caller);

fn whoami() -> String {
    match identity::caller() {
        Some(principal) => principal.subject,
        None => "nobody".to_owned(),
    }
}

impl Handler for Caller {
    fn handle(request: Request) -> Response {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let (first, second) = match request.query().and_then(|query| query.split_once(',')) {
            Some((first, second)) => (number(Some(first)), Some(number(Some(second)))),
            None => (number(request.query()), None),
        };
        let last = request.path().rsplit('/').next().unwrap_or_default().to_owned();
        match last.as_str() {
            "claims" => match identity::caller() {
                Some(principal) => Response::text(
                    200,
                    format!(
                        "{} {:?} {:?} {:?} {}",
                        principal.subject,
                        principal.issuer,
                        principal.session,
                        principal.expires_at,
                        principal.claims_json
                    ),
                ),
                None => Response::text(200, "nobody"),
            },
            // What a plugin that knows of no identity would believe.
            "header" => {
                let name = request.query().unwrap_or_default().to_owned();
                Response::text(200, request.headers(&name).join(","))
            }
            // A policy for pages of other origins that looks at no method.
            "cors" => Response::text(200, whoami())
                .with("access-control-allow-headers", whoami())
                .with("set-cookie", "a=b"),
            "cached" => Response::text(200, whoami()).with("cache-control", "max-age=60"),
            "remaining" => Response::text(200, format!("{:?}", budget::remaining())),
            "charge" => {
                budget::charge(first);
                Response::text(200, format!("{:?}", budget::remaining()))
            }
            // Reserves the first number, and settles with the second if there is one.
            "reserve" => match budget::reserve(first) {
                Ok(reservation) => {
                    let during = budget::remaining();
                    if let Some(spent) = second {
                        reservation.settle(spent);
                        reservation.settle(0);
                    }
                    drop(reservation);
                    Response::text(200, format!("{during:?} {:?}", budget::remaining()))
                }
                Err(exhausted) => Response::new(429)
                    .with("retry-after", exhausted.retry_after.to_string())
                    .body(Body::Bytes(exhausted.remaining.to_string().into_bytes())),
            },
            "trap" => panic!("as asked"),
            _ => Response::text(200, whoami()),
        }
    }
}
