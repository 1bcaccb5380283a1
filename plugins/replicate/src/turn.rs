//! One question to the upstream for each picture, however many ask for it at once.
//!
//! Owns the note by which instances agree who asks. It lies in the storage beside the pictures and has a short
//! life, which whoever asks prolongs: an instance that is ended because its client has gone holds the others up
//! for no longer than [`LEASE`]. A note that can't be written holds nobody up: then each asks. The danger that
//! shaped it: a page with a new picture, a thousand people who open it, and a thousand pictures paid for.

use guesthouse_sdk::kv::{Bucket, Condition, Error, Expiry, PutOptions, Streamed};
use guesthouse_sdk::{Body, Response};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Seconds after which another may ask when nothing was heard of who asks.
const LEASE: u64 = 45;
/// How long the upstream may hold its answer back: well below the lease.
pub(crate) const HOLD: &str = "wait=20";
/// Seconds for which those who waited are told of a failure.
const TOLD: u64 = 30;
/// Bytes of an upstream's refusal.
const LARGEST_REFUSAL: usize = 64 << 10;
/// How long to rest between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What there is to do about a picture.
pub(crate) enum Turn<'a> {
    /// Nothing: here it is.
    Kept(Streamed),
    /// Make it, and tell the others.
    Ours(Asking<'a>),
    /// Answer as whoever was waited for was answered.
    Refused(Response),
    /// It takes too long.
    Late,
}

/// Somebody asks; and what came of it if it was no picture.
#[derive(Serialize, Deserialize)]
struct Note {
    refusal: Option<Refusal>,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The right to ask the upstream.
pub(crate) struct Asking<'a> {
    bucket: &'a Bucket,
    name: String,
    /// The note's; none when it could not be written or is another's by now.
    version: Option<u64>,
}

/// Waits until the picture is there or it is our turn to make it, but no longer than this.
///
/// A refusal that is there at the first look was given to others, and somebody asks anew; one that comes later is
/// the answer of all who wait, whoever asked: a newcomer who asks anew between two looks must not make each of them
/// ask.
pub(crate) fn take<'a>(bucket: &'a Bucket, key: &str, patience: Duration) -> Turn<'a> {
    let began = Instant::now();
    let name = format!("asking/{key}");
    let mut waited = false;
    loop {
        if let Ok(Some(kept)) = bucket.get_stream(key) {
            return Turn::Kept(kept);
        }
        let free = match bucket.get(&name) {
            Ok(None) => Some(Condition::Absent),
            Ok(Some(entry)) => match serde_json::from_slice::<Note>(&entry.value) {
                Ok(Note { refusal: Some(refusal) }) if waited => {
                    return Turn::Refused(refusal.into());
                }
                Ok(Note { refusal: None }) => None,
                _ => Some(Condition::VersionIs(entry.version)),
            },
            Err(_) => Some(Condition::None),
        };
        if let Some(condition) = free {
            let mut asking = Asking { bucket, name: name.clone(), version: None };
            match asking.write(None, LEASE, condition) {
                Ok(()) => {
                    // It may have come between the two looks.
                    if let Ok(Some(kept)) = bucket.get_stream(key) {
                        asking.end();
                        return Turn::Kept(kept);
                    }
                    return Turn::Ours(asking);
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => {
                    eprintln!("a note about a picture could not be written: {error:?}");
                    return Turn::Ours(asking);
                }
            }
        }
        if began.elapsed() > patience {
            return Turn::Late;
        }
        waited = true;
        std::thread::sleep(LOOK);
    }
}

impl Asking<'_> {
    /// Still at it.
    pub(crate) fn renew(&mut self) {
        if let Some(version) = self.version.take()
            && let Err(error) = self.write(None, LEASE, Condition::VersionIs(version))
        {
            eprintln!("a note about a picture could not be renewed: {error:?}");
        }
    }

    /// The picture is kept, or another may try.
    pub(crate) fn end(self) {
        if let Some(version) = self.version {
            _ = self.bucket.delete(&self.name, Condition::VersionIs(version));
        }
    }

    /// There is no picture, and whoever waited for it is answered like this. Gives the answer back, read whole.
    pub(crate) fn refuse(mut self, mut response: Response) -> Response {
        let body = match std::mem::replace(&mut response.body, Body::Empty) {
            Body::Bytes(bytes) => bytes,
            Body::Incoming(mut body) => body.read_all(LARGEST_REFUSAL).unwrap_or_default(),
            _ => Vec::new(),
        };
        let refusal = Refusal {
            status: response.status,
            headers: response.headers.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        if let Some(version) = self.version.take() {
            _ = self.write(Some(refusal), TOLD, Condition::VersionIs(version));
        }
        response.body(Body::Bytes(body))
    }

    fn write(
        &mut self,
        refusal: Option<Refusal>,
        seconds: u64,
        condition: Condition,
    ) -> Result<(), Error> {
        let note = serde_json::to_vec(&Note { refusal }).unwrap_or_default();
        let expires = Expiry::TtlSeconds(seconds);
        let options = PutOptions { metadata: Vec::new(), expires, condition };
        self.version = Some(self.bucket.put(&self.name, &note, &options)?);
        Ok(())
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let mut response = Self::new(refusal.status);
        response.headers = refusal.headers;
        response.body(Body::Bytes(refusal.body.into_bytes()))
    }
}
