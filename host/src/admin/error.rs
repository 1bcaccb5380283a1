//! What the operator is told when a call fails.

use crate::body::Body;
use crate::storage::StoreError;
use http::{Response, StatusCode};
use serde_json::json;

/// A refused call.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn response(&self) -> Response<Body> {
        json_response(self.status, &json!({"error": {"code": self.code, "message": self.message}}))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(text) => Self::invalid(sentence(&text)),
            StoreError::TooLarge(text) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", sentence(&text))
            }
            StoreError::Conflict(index) => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                format!("The condition of operation {index} does not hold; nothing was written."),
            ),
            StoreError::Unavailable(text) => {
                tracing::error!("the storage failed: {text}");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "The storage failed; the log of the house says why.",
                )
            }
        }
    }
}

/// The text with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

pub(super) fn json_response(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
