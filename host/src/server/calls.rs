//! A call from one plugin to another, on its way through the house.
//!
//! Owns the order of the steps for a request that no client sent: version, caller, plugin, a line in the log. What
//! a client meets on its way in and a plugin does not: routes, rates, budgets, the response cache. It must never
//! let a call without a verified caller into a plugin that requires one.

use super::asking;
use super::failure::{self, CallerRefusal, Refusal};
use super::request_id;
use crate::body::{Body, declared_length};
use crate::capabilities::fetch::{Call, Neighbours};
use crate::config::AuthMode;
use crate::headers::X_REQUEST_ID;
use crate::plugins::Plugins;
use futures::future::BoxFuture;
use http::Response;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Brings calls to the plugins that are active.
pub struct Neighbourhood {
    /// Weak: the plugins hold the engine, and the engine holds this.
    plugins: Weak<Plugins>,
    idle: Duration,
}

impl Neighbourhood {
    /// Among these plugins; `idle` is how long one may be silent in the middle of a body.
    #[must_use]
    pub fn new(plugins: &Arc<Plugins>, idle: Duration) -> Self {
        Self { plugins: Arc::downgrade(plugins), idle }
    }
}

impl Neighbours for Neighbourhood {
    fn call(&self, call: Call) -> BoxFuture<'static, Response<Body>> {
        Box::pin(answer(self.plugins.clone(), self.idle, call))
    }
}

async fn answer(plugins: Weak<Plugins>, idle: Duration, call: Call) -> Response<Body> {
    let began = Instant::now();
    let Call { callee, caller, patience, mut request } = call;
    let from = caller.through.last().cloned().unwrap_or_default();
    // Taken once: a swap from now on does not concern this call.
    let slot = plugins.upgrade().and_then(|plugins| {
        let active = plugins.active();
        let canary = active.canary(&callee);
        let principal = caller.principal.as_deref();
        match canary.filter(|canary| canary.serves_plugin(principal, &from)) {
            Some(canary) => Some(canary.slot.clone()),
            None => active.get(&callee).cloned(),
        }
    });
    let Some(slot) = slot else {
        tracing::debug!(plugin = %from, "a call found no plugin `{callee}` in the active deployment");
        return failure::response(&Refusal::NotLoaded);
    };
    let id = request_id::of(request.headers());
    request.headers_mut().insert(X_REQUEST_ID, id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let limit = slot.plugin.limits.body;
    let response = if declared_length(request.headers()).is_some_and(|length| length > limit) {
        failure::response(&Refusal::BodyTooLarge(limit))
    } else if slot.plugin.auth == Some(AuthMode::Required) && caller.principal.is_none() {
        let reason = "caller-missing";
        failure::response(&Refusal::Caller(CallerRefusal::Unauthorized { reason, shown: false }))
    } else {
        request.extensions_mut().insert(caller.clone());
        asking::ask(&slot, request, idle, Some(patience)).await
    };
    tracing::debug!(
        plugin = %from,
        callee = %callee,
        version = slot.number,
        request = id.to_str().unwrap_or("-"),
        depth = caller.through.len(),
        %method,
        path,
        status = response.status().as_u16(),
        micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "a plugin called another"
    );
    response
}
