//! Cloudflare's TURN service: <https://developers.cloudflare.com/realtime/turn/generate-credentials/>.
//!
//! The token never comes here: the host adds it to the request (`inject` in the grant).

use crate::answer::IceServer;
use crate::credential::Credential;
use crate::{Failure, MISCONFIGURED};
use guesthouse_sdk::{Body, fetch, secrets};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of an answer that are read.
const LARGEST: usize = 64 << 10;

const FAILED: Failure = Failure(502, "Failed to generate TURN credentials");

/// Asks for a credential.
pub(crate) fn servers(base: &str, key: &str, ttl: Duration) -> Result<Vec<IceServer>, Failure> {
    let Some(id) = secrets::get(key).filter(|id| is_key_id(id)) else {
        eprintln!("no credentials are given: the secret `{key}` is not granted, or is no key id");
        return Err(MISCONFIGURED);
    };
    let base = base.trim_end_matches('/');
    let url = format!("{base}/v1/turn/keys/{id}/credentials/generate-ice-servers");
    let request = fetch::Request::new("POST", url)
        .with("content-type", "application/json")
        .with("accept", "application/json")
        .body(Body::Bytes(json!({ "ttl": ttl.as_secs() }).to_string().into_bytes()));
    let mut answer = request.send().map_err(|error| {
        if error.is_denied() {
            eprintln!(
                "Cloudflare may not be asked: grant it with fetch = [{{ url = \"{base}\", inject = \
                 {{ authorization = \"Bearer ${{CLOUDFLARE_TURN_TOKEN}}\" }} }}]"
            );
        } else {
            eprintln!("Cloudflare gave no answer: {error:?}");
        }
        FAILED
    })?;
    if !(200..300).contains(&answer.status) {
        eprintln!("Cloudflare answered {}", answer.status);
        return Err(FAILED);
    }
    let bytes = answer.body.read_all(LARGEST).map_err(|error| {
        eprintln!("Cloudflare's answer can't be read: {error:?}");
        FAILED
    })?;
    parse(&bytes).ok_or_else(|| {
        eprintln!("Cloudflare's answer has no servers that can be used");
        FAILED
    })
}

/// An id stands in a path, and must be one segment of it.
fn is_key_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// `iceServers` as a list, or as the one object of the older call.
fn parse(bytes: &[u8]) -> Option<Vec<IceServer>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let servers = match value.get("iceServers")? {
        Value::Array(servers) => servers.iter().map(server).collect::<Option<Vec<_>>>()?,
        object => vec![server(object)?],
    };
    let usable = servers.into_iter().filter(|server| !server.urls.is_empty()).collect::<Vec<_>>();
    usable.iter().any(|server| server.credential.is_some()).then_some(usable)
}

fn server(value: &Value) -> Option<IceServer> {
    let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let urls = match value.get("urls")? {
        Value::String(url) => vec![url.clone()],
        Value::Array(urls) => {
            urls.iter().map(|url| url.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    // Browsers refuse to go to port 53, and wait for nothing.
    let is_blocked = |url: &String| url.split('?').next().is_some_and(|url| url.ends_with(":53"));
    let credential = match (text("username"), text("credential")) {
        (Some(username), Some(credential)) => Some(Credential { username, credential }),
        _ => None,
    };
    let urls: Vec<String> = urls.into_iter().filter(|url| !is_blocked(url)).collect();
    // A browser throws when an address of TURN comes without both.
    if credential.is_none() && urls.iter().any(|url| url.starts_with("turn")) {
        return None;
    }
    Some(IceServer { urls, credential })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read_and_port_53_is_left_out() {
        let list = json!({"iceServers": [
            {"urls": ["stun:stun.cloudflare.com:3478", "stun:stun.cloudflare.com:53"]},
            {"urls": ["turn:turn.cloudflare.com:3478?transport=udp", "turn:turn.cloudflare.com:53?transport=udp"],
             "username": "u", "credential": "c"},
        ]});
        let servers = parse(list.to_string().as_bytes()).unwrap();
        assert_eq!(servers[0].urls, ["stun:stun.cloudflare.com:3478"]);
        assert_eq!(servers[1].urls, ["turn:turn.cloudflare.com:3478?transport=udp"]);
        let object =
            json!({"iceServers": {"urls": "turn:a:3478", "username": "u", "credential": "c"}});
        let servers = parse(object.to_string().as_bytes()).unwrap();
        assert_eq!(servers.len(), 1);
        assert_eq!(servers[0].credential.as_ref().unwrap().username, "u");
    }

    #[test]
    fn what_no_browser_could_use_is_no_answer() {
        for text in [
            "",
            "{}",
            r#"{"iceServers": []}"#,
            r#"{"iceServers": [{"urls": ["turn:a:3478"]}]}"#,
            r#"{"iceServers": [{"urls": ["stun:a:3478"]}]}"#,
            r#"{"iceServers": [{"urls": 7, "username": "u", "credential": "c"}]}"#,
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_id_is_one_segment() {
        assert!(is_key_id("0123456789abcdef"));
        assert!(!is_key_id("") && !is_key_id("../x") && !is_key_id("a/b") && !is_key_id("a?b"));
    }
}
