//! What the upstream APIs differ in.

use guesthouse_sdk::Response;
use serde_json::json;

/// An upstream API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI, and the many servers that speak its protocol.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Replicate.
    Replicate,
}

impl Api {
    /// Its name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Replicate => "replicate",
        }
    }

    /// Where it is when the operator says nothing else.
    #[must_use]
    pub fn default_base(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Replicate => "https://api.replicate.com",
        }
    }

    /// An error of our own in the shape that the API's clients know.
    #[must_use]
    pub fn error(self, status: u16, kind: &str, message: &str) -> Response {
        let body = match self {
            Self::OpenAi => {
                json!({ "error": { "message": message, "type": kind, "param": null, "code": kind } })
            }
            Self::Anthropic => {
                json!({ "type": "error", "error": { "type": kind, "message": message } })
            }
            Self::Replicate => json!({ "status": status, "title": kind, "detail": message }),
        };
        Response::json(status, body.to_string())
    }
}
