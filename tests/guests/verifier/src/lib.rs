//! A verifier with a policy that anyone can see through, for the tests of the host.
//!
//! `Bearer WORD NAME`: the words say what it does. The setting `accepts` names the word that it takes for a
//! proof, so that two versions have two policies.

use guesthouse_sdk::{Handler, Request, Response, config};

#[allow(clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "guesthouse:plugin/called",
        generate_all,
    });
}

use bindings::exports::guesthouse::auth::verifier::{
    Credentials, Guest, Principal, Rejection, RejectionKind,
};

struct Verifier;

guesthouse_sdk::export!(Verifier);
bindings::export!(Verifier with_types_in bindings);

fn principal(subject: &str) -> Principal {
    Principal {
        subject: subject.to_owned(),
        issuer: Some("tests".to_owned()),
        session: None,
        expires_at: None,
        claims_json: format!("{{\"sub\":\"{subject}\"}}"),
    }
}

impl Guest for Verifier {
    fn verify(credentials: Credentials) -> Result<Principal, Rejection> {
        // The tests count these lines.
        eprintln!("asked");
        let reject = |kind, reason: &str| Err(Rejection { kind, reason: reason.to_owned() });
        let cookie = credentials.cookies.first().map(|(_, value)| format!("Bearer good {value}"));
        let Some(shown) = credentials.authorization.or(cookie) else {
            return reject(RejectionKind::Missing, "token-missing");
        };
        let mut words = shown.split(' ').skip(1);
        let (word, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let accepts = config::get("accepts").unwrap_or_else(|| "good".to_owned());
        match word {
            word if word == accepts => Ok(principal(name)),
            // Valid for as many milliseconds.
            "brief" => {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_millis() as u64;
                let until = now + name.parse::<u64>().unwrap();
                Ok(Principal { expires_at: Some(until), ..principal("brief") })
            }
            "nameless" => Ok(principal("")),
            "claimless" => Ok(Principal { claims_json: "no".to_owned(), ..principal("a") }),
            "forbidden" => reject(RejectionKind::Forbidden, "not-a-member"),
            "down" => reject(RejectionKind::Unavailable, "keys-unavailable"),
            "rude" => reject(RejectionKind::Invalid, "x\r\nset-cookie: a=\"b\""),
            "trap" => panic!("as asked"),
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => reject(RejectionKind::Invalid, "token-invalid"),
        }
    }
}

impl Handler for Verifier {
    fn handle(_: Request) -> Response {
        Response::text(200, "the verifier")
    }
}
