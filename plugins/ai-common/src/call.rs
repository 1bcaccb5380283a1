//! Requests of a plugin's own: JSON there, JSON back.

use crate::api::Api;
use crate::headers::{to_client, with_cors};
use crate::proxy::Failure;
use crate::usage::{Reader, Usage};
use guesthouse_sdk::{Body, ReadError, Response, fetch};
use serde_json::Value;

/// Bytes of an answer that is read whole.
const LARGEST: usize = 4 << 20;

/// What an upstream said, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The JSON text.
    pub value: Value,
    /// What it cost.
    pub usage: Usage,
}

/// Why there is no answer to use.
pub enum CallError {
    /// None came.
    Failed(Failure),
    /// The upstream refused: its status and its words.
    Refused(Box<fetch::Response>),
    /// It is not what was asked for.
    Odd,
}

impl CallError {
    /// An answer could not be read whole.
    #[must_use]
    pub fn of(error: ReadError) -> Self {
        match error {
            ReadError::Cut => Self::Failed(Failure::Cut),
            ReadError::TooLarge => Self::Odd,
        }
    }

    /// The client's answer: an upstream's refusal stays as it is.
    #[must_use]
    pub fn response(self, api: Api) -> Response {
        with_cors(match self {
            Self::Failed(failure) => failure.response(api),
            Self::Refused(answer) => {
                let mut response = Response::new(answer.status);
                response.headers = to_client(&answer.headers);
                response.body(Body::Incoming(answer.body))
            }
            Self::Odd => api.error(
                502,
                "upstream_odd",
                "The upstream gave an answer that can't be understood.",
            ),
        })
    }
}

/// Sends a request whose answer is read whole.
///
/// # Errors
/// See [`CallError`].
pub fn call(api: Api, request: fetch::Request, asked: u64) -> Result<Answer, CallError> {
    Failure::check(&request.url).map_err(CallError::Failed)?;
    let mut answer = request.send().map_err(|error| {
        eprintln!("the upstream gave no answer: {error:?}");
        CallError::Failed(Failure::of(&error))
    })?;
    if !(200..300).contains(&answer.status) {
        return Err(CallError::Refused(Box::new(answer)));
    }
    let bytes = answer.body.read_all(LARGEST).map_err(|error| {
        eprintln!("the upstream's answer can't be read: {error:?}");
        CallError::of(error)
    })?;
    let mut reader = Reader::new(api, "application/json");
    reader.piece(&bytes);
    let value = serde_json::from_slice(&bytes).map_err(|_| CallError::Odd)?;
    Ok(Answer { value, usage: reader.finish(asked) })
}

/// A POST of JSON.
#[must_use]
pub fn post(url: String, value: &Value) -> fetch::Request {
    fetch::Request::new("POST", url)
        .with("content-type", "application/json")
        .with("accept", "application/json")
        .body(Body::Bytes(value.to_string().into_bytes()))
}
