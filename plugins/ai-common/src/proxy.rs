//! A request's way to an upstream and back.
//!
//! Owns what is the same for all APIs: hygiene, streaming, what our own errors look like, and the eyes that
//! watch for the log. The answer of an upstream, whatever its status, is the client's answer.

use crate::api::Api;
use crate::headers::{to_client, to_upstream, with_cors};
use crate::log::Pending;
use crate::usage::{Reader, Usage};
use guesthouse_sdk::fetch::{self, Refusal};
use guesthouse_sdk::{Body, IncomingBody, Request, Response, Watch, config};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of a request that are kept for the log.
const KEPT: usize = 256 << 10;

/// A setting of the plugin, where an empty one counts as none.
#[must_use]
pub fn setting_or(key: &str, default: &str) -> String {
    config::get(key).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// Where the upstream is, without a slash at the end.
#[must_use]
pub fn base_url(api: Api) -> String {
    setting_or("base_url", api.default_base()).trim_end_matches('/').to_owned()
}

/// A path and the client's query.
#[must_use]
pub fn with_query(url: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{url}?{query}"),
        None => url,
    }
}

/// 405 in the API's shape.
#[must_use]
pub fn method_not_allowed(api: Api, allow: &str) -> Response {
    let message = format!("This path takes {allow}.");
    with_cors(api.error(405, "method_not_allowed", &message)).with("allow", allow)
}

/// A request to the upstream, made from a client's.
pub struct Forward {
    /// The API.
    pub api: Api,
    /// The method.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Fields that are set in place of the client's.
    pub set: Vec<(String, String)>,
    /// Fields that are set when the client has none.
    pub default: Vec<(String, String)>,
}

/// Why an upstream gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// A secret is not set.
    Missing(Vec<String>),
    /// The plugin's grants don't reach it.
    NotGranted,
    /// It took too long.
    Timeout,
    /// It can't be reached.
    Unreachable,
    /// It ended in the middle, perhaps because the client has gone.
    Cut,
    /// The client's body ended early.
    Body,
}

impl Failure {
    /// The client's answer: in the API's shape, and not to be tried again at once where that is of no use.
    #[must_use]
    pub fn response(&self, api: Api) -> Response {
        let (status, kind, message) = match self {
            Self::Missing(names) => (
                503,
                "secret_missing",
                format!(
                    "This service has no key yet: its operator must set the secret {}.",
                    names.join(" and ")
                ),
            ),
            Self::NotGranted => (
                503,
                "destination_not_granted",
                "This service may not reach its upstream: its operator must grant `base_url` in `fetch`."
                    .to_owned(),
            ),
            Self::Timeout => {
                (504, "upstream_timeout", "The upstream took too long to answer.".to_owned())
            }
            Self::Unreachable => {
                (502, "upstream_unreachable", "The upstream can't be reached.".to_owned())
            }
            Self::Cut => (502, "upstream_cut", "The upstream's answer ended early.".to_owned()),
            Self::Body => (400, "request_cut", "The request's body ended early.".to_owned()),
        };
        let response = api.error(status, kind, &message);
        // The official clients know this field: without it they would try a missing key three times.
        let again = matches!(self, Self::Timeout | Self::Unreachable | Self::Cut);
        response.with("x-should-retry", if again { "true" } else { "false" })
    }

    /// What became of sending.
    #[must_use]
    pub fn of(error: &fetch::Error) -> Self {
        if error.is_denied() {
            Self::NotGranted
        } else if error.is_timeout() {
            Self::Timeout
        } else if error.is_cut() {
            Self::Cut
        } else {
            Self::Unreachable
        }
    }

    /// Whether a request to this URL would leave.
    ///
    /// # Errors
    /// It would not.
    pub fn check(url: &str) -> Result<(), Self> {
        fetch::check(url).map_err(|refusal| match refusal {
            Refusal::NotGranted => Self::NotGranted,
            Refusal::SecretsMissing(names) => Self::Missing(names),
        })
    }
}

/// Sends a client's request to the upstream, and the upstream's answer to the client.
#[must_use]
pub fn forward(request: &Request, forward: Forward) -> Response {
    let api = forward.api;
    let mut log = Pending::begin(api, request.path(), request.header("x-request-id"));
    let headers = fields(request, &forward);
    let kept = Rc::new(RefCell::new(Kept::default()));
    let sent = Failure::check(&forward.url).and_then(|()| {
        let mut out = fetch::Request::new(&forward.method, forward.url);
        out.headers = headers;
        if !matches!(forward.method.as_str(), "GET" | "HEAD" | "DELETE")
            && let Some(body) = request.body()
        {
            out.body = Body::Watched(body, Box::new(Keeper(kept.clone())));
        }
        out.send().map_err(|error| {
            eprintln!("the upstream gave no answer: {error:?}");
            Failure::of(&error)
        })
    });
    let kept = kept.take();
    if let Some(log) = &mut log {
        log.asked(&kept.bytes);
    }
    match sent {
        Ok(answer) => answered(api, answer, log, kept.seen),
        Err(failure) => {
            let response = failure.response(api);
            if let Some(mut log) = log {
                log.answered(response.status, None);
                log.finish(Usage::default(), true);
            }
            with_cors(response)
        }
    }
}

/// Hands an upstream's answer on, and watches it for the log and the caller's budget.
fn answered(api: Api, answer: fetch::Response, mut log: Option<Pending>, asked: u64) -> Response {
    if let Some(log) = &mut log {
        let id = answer.header("x-request-id").or_else(|| answer.header("request-id"));
        log.answered(answer.status, id.map(str::to_owned));
    }
    let reader = Reader::new(api, answer.header("content-type").unwrap_or_default());
    let mut response = Response::new(answer.status);
    response.headers = to_client(&answer.headers);
    with_cors(response.body(watched(answer.body, reader, log, asked)))
}

fn watched(body: IncomingBody, reader: Reader, log: Option<Pending>, asked: u64) -> Body {
    Body::Watched(body, Box::new(Watcher { reader, log, asked }))
}

fn fields(request: &Request, forward: &Forward) -> Vec<(String, String)> {
    let mut headers = to_upstream(request.all_headers());
    headers.retain(|(name, _)| !forward.set.iter().any(|(set, _)| set == name));
    headers.extend(forward.set.iter().cloned());
    for (name, value) in &forward.default {
        if !headers.iter().any(|(known, _)| known == name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    headers
}

/// The beginning of a request's body.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    seen: u64,
}

struct Keeper(Rc<RefCell<Kept>>);

impl Watch for Keeper {
    fn piece(&mut self, bytes: &[u8]) {
        let mut kept = self.0.borrow_mut();
        kept.seen += bytes.len() as u64;
        let room = KEPT.saturating_sub(kept.bytes.len()).min(bytes.len());
        kept.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    fn end(self: Box<Self>, _: bool) {}
}

/// Counts an answer as it passes.
struct Watcher {
    reader: Reader,
    log: Option<Pending>,
    asked: u64,
}

impl Watch for Watcher {
    fn piece(&mut self, bytes: &[u8]) {
        if self.reader.piece(bytes)
            && let Some(log) = &mut self.log
        {
            log.first_token();
        }
    }

    fn end(self: Box<Self>, whole: bool) {
        let usage = self.reader.finish(self.asked);
        usage.charge();
        if let Some(log) = self.log {
            log.finish(usage, whole);
        }
    }
}
