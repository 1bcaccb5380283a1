//! Talking to a running house.
//!
//! Owns the way from a command to the admin API: the address, the token, and sentences for what can go
//! wrong. The token is never printed.

use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the house is.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ClientArgs {
    /// The admin address of the house.
    #[arg(long, env = "GUESTHOUSE_ADMIN", default_value = "http://127.0.0.1:8788")]
    admin: String,
    /// The data folder of the house, for its admin token (GUESTHOUSE_TOKEN is used instead if it is set).
    #[arg(long, env = "GUESTHOUSE_DATA", default_value = "data")]
    data: PathBuf,
}

/// A connection to the admin API.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// The house said no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Client {
    pub(super) fn new(arguments: &ClientArgs) -> anyhow::Result<Self> {
        let token = match std::env::var("GUESTHOUSE_TOKEN") {
            Ok(token) => token,
            Err(_) => {
                let path = arguments.data.join("admin-token");
                std::fs::read_to_string(&path).with_context(|| {
                    format!(
                        "no admin token: {} can't be read. Name the data folder of the house with --data \
                         (or GUESTHOUSE_DATA), or give the token in GUESTHOUSE_TOKEN",
                        path.display()
                    )
                })?
            }
        };
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            base: arguments.admin.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
        })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends, and turns what the house refuses into an error with its own sentence.
    pub(super) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| {
            format!(
                "the house does not answer at {}. Is it running? Name its admin address with --admin (or \
                 GUESTHOUSE_ADMIN)",
                self.base
            )
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let message = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|body| Some(body.get("error")?.get("message")?.as_str()?.to_owned()))
            .unwrap_or_else(|| format!("the house answered {status}"));
        bail!(Refused { status, message })
    }
}

/// The path of a key: namespace and key are one segment each.
pub(super) fn key_path(namespace: &str, key: &str) -> String {
    format!("/v1/kv/{}/{}", segment(namespace), segment(key))
}

/// Percent-encoded so that nothing in it is taken for syntax.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Runs a command that talks to the house. 3: what was asked for is not there, or has changed.
pub(super) fn block_on(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match runtime.block_on(work) {
        Err(error)
            if error.downcast_ref::<Refused>().is_some_and(|refused| {
                matches!(refused.status, StatusCode::NOT_FOUND | StatusCode::CONFLICT)
            }) =>
        {
            eprintln!("guesthouse: {error:#}");
            Ok(ExitCode::from(3))
        }
        result => result,
    }
}
