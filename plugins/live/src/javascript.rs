//! JavaScript of the code: the transpile plugin is asked, within the process.
//!
//! Owns that question. An answer that says what is wrong with the code is an answer, too.

use crate::settings::Settings;
use guesthouse_sdk::{Body, fetch};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Bytes of an answer.
const ANSWER: usize = 4 << 20;

/// The JavaScript, or what is wrong with the code as the transpile plugin tells it.
///
/// # Errors
/// Nobody answered; for the operator.
pub fn make(settings: &Settings, code: &str) -> Result<Result<String, Value>, String> {
    let source = utf8_percent_encode(&settings.jsx_import_source, NON_ALPHANUMERIC);
    let rewrite = if settings.rewrite_imports { "&importMap=1" } else { "" };
    let url = format!(
        "http://{}.internal/transpile?filename=index.tsx&jsxImportSource={source}{rewrite}",
        settings.transpile
    );
    let answer = fetch::Request::new("POST", url)
        .with("content-type", "text/plain")
        .body(Body::Bytes(code.as_bytes().to_vec()))
        .send()
        .map_err(|error| {
            format!("the plugin `{}` can't be asked: {error:?}", settings.transpile)
        })?;
    let status = answer.status;
    let mut body = answer.body;
    let body = body.read_all(ANSWER).map_err(|error| format!("its answer: {error:?}"))?;
    match status {
        200 => String::from_utf8(body).map(Ok).map_err(|error| error.to_string()),
        422 => {
            // In place of the plugin the house answers for a code that used up its stack, and in plain text.
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            let text = || serde_json::json!([{ "message": String::from_utf8_lossy(&body).trim() }]);
            Ok(Err(answer.get("errors").cloned().unwrap_or_else(text)))
        }
        413 => Ok(Err(serde_json::json!([{ "message": "the code is too long to be transpiled" }]))),
        status => Err(format!(
            "the plugin `{}` answered {status}: {}",
            settings.transpile,
            String::from_utf8_lossy(body.get(..200).unwrap_or(&body))
        )),
    }
}
