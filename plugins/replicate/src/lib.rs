//! Replicate's API behind the house's token.
//!
//! | path | is |
//! |---|---|
//! | `POST /replicate` | JSON `{"input": {…}, "model"?, "version"?, "stream"?}`: the prediction when it has ended, or its events |
//! | `GET /replicate/{base64url of a query string}.{webp,png,jpeg}` | a picture, kept for ever under its question |
//! | `/replicate/v1/…` | the API itself, for the official clients |
//!
//! Settings: `base_url` (default `https://api.replicate.com`), `model` (default
//! `black-forest-labs/flux-schnell`), `namespace` (default `default`), and those of the log (`log`,
//! `log_days`, `log_namespace`, `prices`). The token is the operator's to `inject` as `authorization`; this plugin
//! never has it. Pictures and streams come from other hosts, which `fetch` must grant.

mod picture;
mod turn;

use ai_common::log::Pending;
use ai_common::{
    Answer, Api, CallError, Failure, Forward, Usage, base_url, call, forward, method_not_allowed,
    post, preflight, setting_or, with_cors, with_query,
};
use guesthouse_sdk::kv::{self, Bucket, Condition, Expiry, PutOptions};
use guesthouse_sdk::{Body, Handler, Request, Response, fetch};
use picture::Picture;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use turn::{Asking, Turn};

/// Bytes of a question.
const LARGEST_QUESTION: usize = 1 << 20;
/// Bytes of a picture.
const LARGEST_PICTURE: usize = 20 << 20;
/// How long a prediction is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long to rest between two looks at a prediction.
const REST: Duration = Duration::from_millis(500);
const FOREVER: &str = "public, max-age=31536000, immutable";

/// The component.
pub struct Replicate;

guesthouse_sdk::export!(Replicate);

impl Handler for Replicate {
    fn handle(request: Request) -> Response {
        let method = request.method();
        if method == "OPTIONS" {
            return preflight("GET, POST, DELETE, OPTIONS");
        }
        let path = request.path().strip_prefix("/replicate").unwrap_or_default();
        match path {
            "" | "/" if method == "POST" => logged(&request, predict),
            "" | "/" => method_not_allowed(Api::Replicate, "POST"),
            path if path.starts_with("/v1/") => {
                let url = format!("{}{path}", base_url(Api::Replicate));
                let url = with_query(url, request.query());
                let (set, default) = (Vec::new(), Vec::new());
                forward(&request, Forward { api: Api::Replicate, method, url, set, default })
            }
            _ if method != "GET" && method != "HEAD" => {
                method_not_allowed(Api::Replicate, "GET, HEAD")
            }
            path => match Picture::parse(path.trim_start_matches('/')) {
                Ok(picture) => logged(&request, |request, log| show(request, &picture, log)),
                Err(why) => with_cors(Api::Replicate.error(400, "invalid_request", &why)),
            },
        }
    }
}

/// Answers, and writes what it was into the log.
fn logged(
    request: &Request,
    answer: impl FnOnce(&Request, &mut Option<Pending>) -> Response,
) -> Response {
    let mut log = Pending::begin(Api::Replicate, request.path(), request.header("x-request-id"));
    let response = answer(request, &mut log);
    if let Some(mut log) = log {
        log.answered(response.status, None);
        log.finish(Usage::default(), true);
    }
    response
}

/// `POST /replicate`.
fn predict(request: &Request, log: &mut Option<Pending>) -> Response {
    let refuse = |message: &str| with_cors(Api::Replicate.error(400, "invalid_request", message));
    let bytes = request.body().and_then(|mut body| body.read_all(LARGEST_QUESTION).ok());
    let question = bytes.as_deref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let Some(question) = question else { return refuse("The body must be JSON of at most 1 MiB.") };
    let Some(input) = question.get("input").filter(|input| input.is_object()) else {
        return refuse("The body must have an object as `input`.");
    };
    if let (Some(log), Some(bytes)) = (log, &bytes) {
        log.asked(bytes);
    }
    let text = |key: &str| question.get(key).and_then(Value::as_str);
    let mut ask = Map::new();
    ask.insert("input".to_owned(), input.clone());
    let (model, version) = (text("model"), text("version"));
    let url = match (model, version) {
        (_, Some(version)) => {
            ask.insert("version".to_owned(), json!(version));
            format!("{}/v1/predictions", base_url(Api::Replicate))
        }
        (Some(model), None) if !is_model(model) => {
            return refuse("`model` must be an owner and a name, as `owner/name`.");
        }
        (model, None) => model_url(model.unwrap_or(&default_model())),
    };
    if question.get("stream").and_then(Value::as_bool) == Some(true) {
        ask.insert("stream".to_owned(), json!(true));
        return stream(url, &Value::Object(ask))
            .unwrap_or_else(|error| error.response(Api::Replicate));
    }
    match finished(url, &Value::Object(ask), "wait", &mut || ()) {
        Ok(prediction) => with_cors(Response::json(200, prediction.to_string())),
        Err(error) => error.response(Api::Replicate),
    }
}

fn default_model() -> String {
    setting_or("model", "black-forest-labs/flux-schnell")
}

fn model_url(model: &str) -> String {
    format!("{}/v1/models/{model}/predictions", base_url(Api::Replicate))
}

fn is_model(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    text.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// Starts a prediction and hands its events through.
fn stream(url: String, ask: &Value) -> Result<Response, CallError> {
    let Answer { value, .. } = call(Api::Replicate, post(url, ask), 0)?;
    let events = value.pointer("/urls/stream").and_then(Value::as_str).ok_or(CallError::Odd)?;
    Failure::check(events).map_err(CallError::Failed)?;
    let request = fetch::Request::new("GET", events)
        .with("accept", "text/event-stream")
        .with("cache-control", "no-store");
    let answer = request.send().map_err(|error| CallError::Failed(Failure::of(&error)))?;
    if answer.status != 200 {
        return Err(CallError::Refused(Box::new(answer)));
    }
    let response = Response::new(200)
        .with("content-type", "text/event-stream")
        .with("cache-control", "no-store")
        .body(Body::Incoming(answer.body));
    Ok(with_cors(response))
}

/// Starts a prediction and waits for its end; `prefer` is what the upstream is asked to do meanwhile, and `look` is
/// called before each look at it.
fn finished(
    url: String,
    ask: &Value,
    prefer: &str,
    look: &mut dyn FnMut(),
) -> Result<Value, CallError> {
    let began = Instant::now();
    let request = post(url, ask).with("prefer", prefer);
    let mut prediction = call(Api::Replicate, request, 0)?.value;
    loop {
        match prediction.get("status").and_then(Value::as_str) {
            Some("succeeded" | "failed" | "canceled" | "aborted") => return Ok(prediction),
            Some(_) if began.elapsed() < PATIENCE => {}
            Some(_) => return Err(CallError::Failed(Failure::Timeout)),
            None => return Err(CallError::Odd),
        }
        let id = prediction.get("id").and_then(Value::as_str).ok_or(CallError::Odd)?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(CallError::Odd);
        }
        let url = format!("{}/v1/predictions/{id}", base_url(Api::Replicate));
        look();
        std::thread::sleep(REST);
        prediction = call(Api::Replicate, fetch::Request::new("GET", url), 0)?.value;
    }
}

/// `GET /replicate/….webp`: from the storage, else made and kept.
fn show(request: &Request, picture: &Picture, log: &mut Option<Pending>) -> Response {
    let model = default_model();
    let key = picture.key(&model);
    let etag = format!("\"{}\"", key.trim_start_matches("picture/"));
    let head = |status: u16| {
        with_cors(Response::new(status))
            .with("cache-control", FOREVER)
            .with("etag", etag.clone())
            .with("content-type", picture.kind)
            .with("x-content-type-options", "nosniff")
    };
    // What has this name never changes: who has it, has it.
    let known = request.header("if-none-match").unwrap_or_default();
    if known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag) {
        *log = None;
        return head(304);
    }
    let bucket = kv::open(&setting_or("namespace", "default"));
    let bucket = match bucket {
        Ok(bucket) => bucket,
        Err(error) => {
            eprintln!("the namespace of the pictures can't be opened: {error:?}");
            return with_cors(Api::Replicate.error(500, "internal", "The pictures can't be read."));
        }
    };
    let mut asking = match turn::take(&bucket, &key, PATIENCE) {
        Turn::Ours(asking) => asking,
        other => {
            // Nothing was asked of the upstream.
            *log = None;
            return match other {
                Turn::Kept(kept) => head(200)
                    .with("content-length", kept.info.size.to_string())
                    .body(Body::Stream(kept.body)),
                Turn::Refused(response) => response,
                _ => with_cors(Failure::Timeout.response(Api::Replicate)),
            };
        }
    };
    let ask = json!({ "input": picture.input });
    if let Some(log) = log {
        log.asked(ask.to_string().as_bytes());
    }
    match make(&model, &ask, &bucket, &key, &mut asking) {
        Ok(bytes) => {
            asking.end();
            head(200).body(Body::Bytes(bytes))
        }
        // That this client has gone is no answer for the next.
        Err(error @ CallError::Failed(Failure::Cut)) => {
            asking.end();
            error.response(Api::Replicate)
        }
        Err(error) => asking.refuse(error.response(Api::Replicate)),
    }
}

fn make(
    model: &str,
    ask: &Value,
    bucket: &Bucket,
    key: &str,
    asking: &mut Asking<'_>,
) -> Result<Vec<u8>, CallError> {
    let prediction = finished(model_url(model), ask, turn::HOLD, &mut || asking.renew())?;
    asking.renew();
    let output = prediction.get("output");
    let url = output
        .and_then(|output| output.as_str().or_else(|| output.get(0)?.as_str()))
        .filter(|_| prediction.get("status").and_then(Value::as_str) == Some("succeeded"));
    let Some(url) = url else {
        eprintln!(
            "the prediction gave no picture: {}",
            prediction.get("error").unwrap_or(&Value::Null)
        );
        return Err(CallError::Odd);
    };
    Failure::check(url).map_err(CallError::Failed)?;
    let sent = fetch::Request::new("GET", url).send();
    let mut answer = sent.map_err(|error| CallError::Failed(Failure::of(&error)))?;
    let is_picture = answer.header("content-type").is_some_and(|kind| kind.starts_with("image/"));
    if answer.status != 200 || !is_picture {
        return Err(CallError::Odd);
    }
    let bytes = answer.body.read_all(LARGEST_PICTURE).map_err(|error| {
        eprintln!("the picture can't be read: {error:?}");
        CallError::of(error)
    })?;
    let options =
        PutOptions { metadata: Vec::new(), expires: Expiry::Never, condition: Condition::None };
    // It is paid for: who asked gets it, kept or not.
    if let Err(error) = bucket.put(key, &bytes, &options) {
        eprintln!("a picture could not be kept: {error:?}");
    }
    Ok(bytes)
}
