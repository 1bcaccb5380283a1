//! The data of the house, for the operator.

use super::error::{ApiError, json_response};
use super::{Admin, Answer};
use crate::body::{Body, BodyError};
use crate::storage::{
    Condition, Effect, Expiry, Info, ListOptions, Operation, PutOptions, StoreError,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Bytes of the JSON of one atomic write.
const BATCH: usize = 64 << 20;

pub(super) async fn route<B>(admin: &Admin, request: Request<B>, path: &[&str]) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    if let Some(namespace) = path.first() {
        check_namespace(namespace)?;
    }
    match (request.method().as_str(), path) {
        ("GET", []) => {
            let mut names = admin.store.namespaces().resolve().await?;
            names.retain(|name| check_namespace(name).is_ok());
            Ok(json_response(StatusCode::OK, &json!({"namespaces": names})))
        }
        ("GET", [namespace]) => list(admin, namespace, request.uri().query().unwrap_or("")).await,
        ("POST", [namespace]) => write(admin, namespace, request.into_body()).await,
        ("GET", [namespace, key]) => get(admin, namespace, key).await,
        ("HEAD", [namespace, key]) => {
            let info = admin.store.stat(namespace, key).resolve().await?;
            let info = info.ok_or_else(|| missing(namespace, key))?;
            let mut response = Response::new(Body::Empty);
            describe(response.headers_mut(), &info);
            Ok(response)
        }
        ("PUT", [namespace, key]) => put(admin, namespace, key, request).await,
        ("DELETE", [namespace, key]) => {
            let condition = condition(request.headers())?;
            let delete = Operation::Delete { key: (*key).to_owned(), condition };
            let effects = admin.store.write(namespace, vec![delete]).await?;
            let existed = matches!(effects.first(), Some(Effect::Deleted { existed: true }));
            Ok(json_response(StatusCode::OK, &json!({"existed": existed})))
        }
        (method, _) => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            format!("{method} is not a method of this path."),
        )),
    }
}

/// `~plugin` is a plugin's own namespace; the rest are names as in the configuration.
fn check_namespace(name: &str) -> Result<(), ApiError> {
    let plain = name.strip_prefix('~').unwrap_or(name);
    let valid = !plain.is_empty()
        && name.len() <= 64
        && plain
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    if valid {
        Ok(())
    } else {
        Err(ApiError::invalid(format!(
            "`{name}` is not a namespace: lower-case letters, digits, `-`, `_` and `.`, or `~` and the name \
             of a plugin for its own."
        )))
    }
}

fn missing(namespace: &str, key: &str) -> ApiError {
    ApiError::not_found(format!("There is no key `{key}` in `{namespace}`."))
}

fn describe(headers: &mut HeaderMap, info: &Info) {
    headers.insert(http::header::CONTENT_LENGTH, info.size.into());
    headers
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert("x-kv-version", info.version.into());
    if let Ok(metadata) = HeaderValue::from_str(&STANDARD.encode(&info.metadata)) {
        headers.insert("x-kv-metadata", metadata);
    }
    if let Some(at) = info.expires_at {
        headers.insert("x-kv-expires-at", at.into());
    }
}

async fn get(admin: &Admin, namespace: &str, key: &str) -> Answer {
    let value = admin.store.stream(namespace, key, 0, None).resolve().await?;
    let value = value.ok_or_else(|| missing(namespace, key))?;
    let body = value
        .body
        .map(|piece| piece.map(Frame::data).map_err(|error| BodyError::Plugin(error.to_string())));
    let mut response = Response::new(Body::stream(StreamBody::new(body)));
    describe(response.headers_mut(), &value.info);
    Ok(response)
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| ApiError::invalid(format!("`{name}` must be a whole number.")))
}

fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    if let Some(version) = number(headers, "x-kv-if-version")? {
        return Ok(Condition::Version(version));
    }
    let absent = headers.get("x-kv-if-absent").is_some_and(|value| value == "true");
    Ok(if absent { Condition::Absent } else { Condition::None })
}

async fn put<B>(admin: &Admin, namespace: &str, key: &str, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let headers = request.headers();
    let metadata = match headers.get("x-kv-metadata") {
        Some(value) => STANDARD
            .decode(value.as_bytes())
            .map_err(|_| ApiError::invalid("`x-kv-metadata` must be base64."))?,
        None => Vec::new(),
    };
    let expires = match (number(headers, "x-kv-ttl")?, number(headers, "x-kv-expires-at")?) {
        (Some(seconds), _) => Expiry::Ttl(seconds),
        (None, Some(at)) => Expiry::At(at),
        (None, None) => Expiry::Never,
    };
    let options = PutOptions { metadata: metadata.into(), expires, condition: condition(headers)? };
    let body = request
        .into_body()
        .into_data_stream()
        .map(|piece| {
            piece.map_err(|error| StoreError::Invalid(format!("the upload was cut off: {error}")))
        })
        .boxed();
    let version = admin.store.put_stream(namespace, key, body, options).await?;
    Ok(json_response(StatusCode::OK, &json!({"version": version})))
}

async fn list(admin: &Admin, namespace: &str, query: &str) -> Answer {
    let mut options = ListOptions::default();
    let mut query: HashMap<_, _> = url_pairs(query).collect();
    options.prefix = query.remove("prefix").unwrap_or_default();
    options.cursor = query.remove("cursor").filter(|cursor| !cursor.is_empty());
    if let Some(limit) = query.remove("limit") {
        options.limit =
            limit.parse().map_err(|_| ApiError::invalid("`limit` must be a whole number."))?;
    }
    if let Some(unknown) = query.keys().next() {
        return Err(ApiError::invalid(format!(
            "There is no parameter `{unknown}`: prefix, limit and cursor are known."
        )));
    }
    let page = admin.store.list(namespace, options).resolve().await?;
    let keys: Vec<Value> = page
        .keys
        .iter()
        .map(|(key, info)| {
            json!({
                "key": key,
                "size": info.size,
                "version": info.version,
                "metadata": STANDARD.encode(&info.metadata),
                "expires_at": info.expires_at,
            })
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({"keys": keys, "cursor": page.cursor})))
}

fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// An atomic write, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<BatchOperation>,
    /// Plugins whose part of the response cache is dropped with the write.
    #[serde(default)]
    purge: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum BatchOperation {
    Put(BatchPut),
    Delete(BatchKey),
    Check(BatchKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchPut {
    key: String,
    value: String,
    #[serde(default)]
    metadata: String,
    ttl: Option<u64>,
    expires_at: Option<u64>,
    if_version: Option<u64>,
    #[serde(default)]
    if_absent: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchKey {
    key: String,
    if_version: Option<u64>,
    #[serde(default)]
    if_absent: bool,
}

fn to_condition(version: Option<u64>, absent: bool) -> Condition {
    match version {
        Some(version) => Condition::Version(version),
        None if absent => Condition::Absent,
        None => Condition::None,
    }
}

impl BatchOperation {
    fn into_operation(self) -> Result<Operation, ApiError> {
        let decode = |text: &str, what: &str| {
            STANDARD
                .decode(text)
                .map(Bytes::from)
                .map_err(|_| ApiError::invalid(format!("`{what}` must be base64.")))
        };
        Ok(match self {
            Self::Put(put) => Operation::Put {
                value: decode(&put.value, "value")?,
                options: PutOptions {
                    metadata: decode(&put.metadata, "metadata")?,
                    expires: match (put.ttl, put.expires_at) {
                        (Some(seconds), _) => Expiry::Ttl(seconds),
                        (None, Some(at)) => Expiry::At(at),
                        (None, None) => Expiry::Never,
                    },
                    condition: to_condition(put.if_version, put.if_absent),
                },
                key: put.key,
            },
            Self::Delete(delete) => Operation::Delete {
                condition: to_condition(delete.if_version, delete.if_absent),
                key: delete.key,
            },
            Self::Check(check) => Operation::Check {
                condition: to_condition(check.if_version, check.if_absent),
                key: check.key,
            },
        })
    }
}

async fn write<B>(admin: &Admin, namespace: &str, body: B) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let body = Admin::read_body(body, BATCH).await?;
    let batch: Batch = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid(format!("The body is not an atomic write: {error}.")))?;
    for name in &batch.purge {
        admin.slot(name)?;
    }
    let operations = batch
        .operations
        .into_iter()
        .map(BatchOperation::into_operation)
        .collect::<Result<_, _>>()?;
    let effects = admin.store.write(namespace, operations).await?;
    // After the commit, or the cache could be filled again with what was there before; before the answer,
    // or who published could still be shown the old.
    for name in &batch.purge {
        admin.purge(name);
    }
    let effects: Vec<Value> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Written { version } => json!({"version": version}),
            Effect::Deleted { existed } => json!({"existed": existed}),
            Effect::Counted { value } => json!({"value": value}),
            Effect::Checked => json!({}),
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({"effects": effects})))
}
