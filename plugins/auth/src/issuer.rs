//! Asking the issuer for its keys, and sharing them.
//!
//! Owns the network and the storage behind [`crate::keyring`]. What is kept lies in the plugin's own
//! namespace, for all instances; each instance also remembers the keys that it has parsed. A storage that
//! fails costs a question to the issuer, never a wrong answer.

use crate::keyring::{Kept, Plan, Times};
use crate::keys::Key;
use crate::policy::No;
use guesthouse_sdk::bindings::wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use guesthouse_sdk::bindings::wasi::http0_2_12::outgoing_handler::{self, RequestOptions};
use guesthouse_sdk::bindings::wasi::http0_2_12::types::{
    Fields, IncomingBody, OutgoingRequest, Scheme,
};
use guesthouse_sdk::bindings::wasi::io::streams::StreamError;
use guesthouse_sdk::kv::{self, Bucket, Condition, Expiry, PutOptions};
use std::cell::RefCell;

/// Bytes of a set of keys.
const MAX_SET: usize = 256 << 10;
/// Nanoseconds that the issuer may take for each step.
const PATIENCE: u64 = 3_000_000_000;
/// Looks at the kept keys for one token: more than fit into the time that another may take to ask.
const TURNS: u32 = 300;
/// Nanoseconds between looks at what another instance learns.
const LOOK: u64 = 20_000_000;

thread_local! {
    /// The set that was parsed last, and its keys.
    static PARSED: RefCell<Option<(String, Vec<Key>)>> = const { RefCell::new(None) };
}

/// The key of this name, as the issuer publishes it.
pub(crate) fn find(uri: &str, kid: &str, times: Times) -> Result<Key, No> {
    let bucket = kv::open("default").map_err(|error| {
        eprintln!("the namespace `default` can't be opened: {error:?}");
        No::Unavailable("jwk-remote-failed-to-load")
    })?;
    let name = format!("jwks/{uri}");
    let mut asked = false;
    // Each turn but a wait is caused by another instance's write; so many at once there are not.
    let mut turns = 0;
    loop {
        turns += 1;
        if turns > TURNS {
            return Err(No::Unavailable("jwk-remote-failed-to-load"));
        }
        let (kept, version) = read(&bucket, &name);
        let key = known(&kept, kid);
        match (kept.plan(key.is_some(), times, guesthouse_sdk::now_ms()), key) {
            (Plan::Use, Some(key)) => return Ok(key),
            (Plan::Unknown, _) => return Err(No::Invalid("jwk-kid-mismatch")),
            (Plan::Wait, _) => subscribe_duration(LOOK).block(),
            // Only one question for a token, whatever the storage makes of the answer.
            (Plan::Ask, key) if !asked => {
                let now = guesthouse_sdk::now_ms();
                let question = kept.ask(now);
                // Another instance was first, or the storage fails: look again.
                let Ok(version) = write(&bucket, &name, &question, condition(version)) else {
                    subscribe_duration(LOOK).block();
                    continue;
                };
                asked = true;
                let answer = fetch(uri).and_then(|set| {
                    crate::keys::parse_set(&set).map(|_| set).map_err(|why| why.to_owned())
                });
                if let Err(why) = &answer {
                    eprintln!("the keys at {uri} could not be fetched: {why}");
                }
                let answered = question.answered(answer.ok(), guesthouse_sdk::now_ms());
                // Who finds the key here need not ask the storage for it.
                let found = known(&answered, kid);
                let kept = write(&bucket, &name, &answered, Condition::VersionIs(version));
                if let Some(found) = found
                    && answered.plan(true, times, guesthouse_sdk::now_ms()) == Plan::Use
                {
                    return Ok(found);
                }
                if kept.is_err() {
                    return key.ok_or(No::Unavailable("jwk-remote-failed-to-load"));
                }
            }
            _ => return Err(No::Unavailable("jwk-remote-failed-to-load")),
        }
    }
}

fn known(kept: &Kept, kid: &str) -> Option<Key> {
    let set = kept.set.as_ref()?;
    PARSED.with_borrow_mut(|parsed| {
        if parsed.as_ref().is_none_or(|(of, _)| of != set) {
            *parsed = Some((set.clone(), kept.keys()));
        }
        let (_, keys) = parsed.as_ref()?;
        keys.iter().find(|key| key.kid.as_deref() == Some(kid)).cloned()
    })
}

fn condition(version: Option<u64>) -> Condition {
    version.map_or(Condition::Absent, Condition::VersionIs)
}

fn read(bucket: &Bucket, name: &str) -> (Kept, Option<u64>) {
    match bucket.get(name) {
        Ok(Some(entry)) => {
            (serde_json::from_slice(&entry.value).unwrap_or_default(), Some(entry.version))
        }
        Ok(None) => (Kept::default(), None),
        Err(error) => {
            eprintln!("the kept keys can't be read: {error:?}");
            (Kept::default(), None)
        }
    }
}

fn write(bucket: &Bucket, name: &str, kept: &Kept, condition: Condition) -> Result<u64, ()> {
    let value = serde_json::to_vec(kept).map_err(|_| ())?;
    let options = PutOptions { metadata: Vec::new(), expires: Expiry::Never, condition };
    bucket.put(name, &value, &options).map_err(|_| ())
}

/// Gets a text from a URL.
fn fetch(uri: &str) -> Result<String, String> {
    let (scheme, rest) = uri.split_once("://").ok_or("no URL")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let headers = Fields::new();
    _ = headers.append("accept", b"application/json");
    let request = OutgoingRequest::new(headers);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let set = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| "no URL that can be asked")?;
    let options = RequestOptions::new();
    _ = options.set_connect_timeout(Some(PATIENCE));
    _ = options.set_first_byte_timeout(Some(PATIENCE));
    _ = options.set_between_bytes_timeout(Some(PATIENCE));
    let failed = |code| format!("{code:?}");
    let future = outgoing_handler::handle(request, Some(options)).map_err(failed)?;
    future.subscribe().block();
    let response = future.get().and_then(Result::ok).ok_or("no answer")?.map_err(failed)?;
    if response.status() != 200 {
        return Err(format!("the issuer answered with status {}", response.status()));
    }
    let body: IncomingBody = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no body")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(format!("{error:?}")),
        }
        if bytes.len() > MAX_SET {
            return Err(format!("the answer has more than {MAX_SET} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|_| "the answer is not text".to_owned())
}
