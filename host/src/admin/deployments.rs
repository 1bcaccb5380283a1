//! Deployments and versions, for the operator.

use super::error::{ApiError, json_response};
use super::{Admin, Answer};
use crate::plugins::{Active, DeployError, DeployRequest, Plugins, Record};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Bytes of a request: a list of names at most.
const BODY: usize = 64 << 10;

/// Which version.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rollback {
    version: Option<u64>,
}

/// Which share of the callers; none: all.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Promote {
    percent: Option<u8>,
}

pub(super) async fn route<B>(admin: &Admin, request: Request<B>, path: &[&str]) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    match (request.method().as_str(), path) {
        ("GET", ["v1", "deployments"]) => {
            Ok(json_response(StatusCode::OK, &summary(&admin.plugins)))
        }
        ("POST", ["v1", "deployments"]) => {
            let asked: DeployRequest = read(request.into_body()).await?;
            let outcome = admin.plugins.deploy(asked).await?;
            Ok(json_response(StatusCode::OK, &json!(outcome)))
        }
        ("GET", ["v1", "plugins", name, "versions"]) => {
            let serves = admin.plugins.active();
            let active = serves.get(name).map(|slot| slot.number);
            let kept = admin.plugins.versions(name).await?;
            if kept.is_empty() {
                return Err(ApiError::not_found(format!("There is no plugin `{name}`.")));
            }
            let versions: Vec<Value> =
                kept.iter().rev().map(|record| version(record, &serves)).collect();
            let answer = json!({"plugin": name, "active": active, "versions": versions});
            Ok(json_response(StatusCode::OK, &answer))
        }
        ("POST", ["v1", "plugins", name, "promote"]) => {
            let Promote { percent } = read(request.into_body()).await?;
            let outcome = admin.plugins.promote((*name).to_owned(), percent).await?;
            Ok(json_response(StatusCode::OK, &json!(outcome)))
        }
        ("POST", ["v1", "plugins", name, "rollback"]) => {
            let Rollback { version } = read(request.into_body()).await?;
            let outcome = admin.plugins.rollback((*name).to_owned(), version).await?;
            Ok(json_response(StatusCode::OK, &json!(outcome)))
        }
        (method, _) => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            format!("{method} is not a method of this path."),
        )),
    }
}

async fn read<B, T>(body: B) -> Result<T, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
    T: DeserializeOwned + Default,
{
    let body = Admin::read_body(body, BODY).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::invalid(format!("The body is not what this call takes: {error}."))
    })
}

/// The deployment that serves, what is left of earlier ones, and how the last switch went.
pub(super) fn summary(plugins: &Plugins) -> Value {
    let active = plugins.active();
    let draining: Vec<Value> = plugins
        .draining()
        .iter()
        .map(|old| {
            json!({
                "plugin": old.plugin,
                "version": old.number,
                "running": old.running(),
                "for_seconds": old.since.elapsed().as_secs(),
            })
        })
        .collect();
    json!({
        "sequence": active.sequence(),
        "plugins": active
            .slots()
            .iter()
            .map(|(name, slot)| (name.clone(), json!(slot.number)))
            .collect::<serde_json::Map<_, _>>(),
        "canaries": active
            .canaries()
            .iter()
            .map(|(name, canary)| {
                let share = json!({"version": canary.slot.number, "percent": canary.percent});
                (name.clone(), share)
            })
            .collect::<serde_json::Map<_, _>>(),
        "draining": draining,
        "last_switch": plugins.last_switch().map(|last| json!({
            "sequence": last.sequence,
            "took_ms": last.took_ms,
            "switch_micros": last.switch_micros,
        })),
    })
}

fn version(record: &Record, serves: &Active) -> Value {
    let (name, number) = (&record.plugin, record.number);
    let canary = serves.canary(name).filter(|canary| canary.slot.number == number);
    let rolled_back = serves.rolled_back(name).filter(|canary| canary.version == number);
    json!({
        "version": number,
        "active": serves.get(name).is_some_and(|slot| slot.number == number),
        "canary": canary.map(|canary| canary.percent),
        "rolled_back": rolled_back.map(|canary| canary.reason.as_str()),
        "digest": record.digest,
        "size": record.size,
        "created": record.created,
        "table": record.table,
    })
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let (status, code) = match &error {
            DeployError::Config(_) => (StatusCode::UNPROCESSABLE_ENTITY, "configuration"),
            DeployError::Plugin(_) => (StatusCode::UNPROCESSABLE_ENTITY, "plugin"),
            DeployError::Canary(_) => (StatusCode::UNPROCESSABLE_ENTITY, "canary"),
            DeployError::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            DeployError::NewGrants(_) => (StatusCode::FORBIDDEN, "new-grants"),
            DeployError::PlanChanged => (StatusCode::CONFLICT, "plan-changed"),
            DeployError::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            DeployError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let text = format!("nothing was changed: {error}");
        tracing::warn!("a deployment was refused; {text}");
        Self::new(status, code, text.trim_end().to_owned())
    }
}
