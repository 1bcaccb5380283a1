//! wasi:http 0.2: one request at a time in an instance.
//!
//! Owns the call into `wasi:http/incoming-handler`. The instance is handed back only by a request that
//! ended well.

use super::answer::Answer;
use super::failure::Failure;
use super::meter::Meter;
use super::state::State;
use super::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// A component that exports `wasi:http/incoming-handler`.
pub(super) struct Sequential {
    pre: ProxyPre<State>,
}

/// An instance and the store that it lives in.
pub(super) struct Instance {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
    since: Instant,
}

impl Instance {
    pub(super) fn meter(&self) -> &Arc<Meter> {
        self.store.data().meter()
    }

    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// Since when it has been waiting.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn rested(mut self) -> Self {
        self.since = Instant::now();
        self
    }
}

/// Marks the body of an answer as broken when the guest ends in the middle: with its instance the body ends
/// as if it were whole.
struct Unfinished<'a>(Option<&'a Answer>);

impl Unfinished<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.0 {
            answer.broken.store(true, Release);
        }
    }
}

impl Sequential {
    pub(super) fn new(pre: ProxyPre<State>) -> Self {
        Self { pre }
    }

    /// A fresh instance.
    pub(super) async fn instantiate(
        &self,
        version: &Version,
        meter: &Arc<Meter>,
    ) -> Result<Instance, Failure> {
        let mut store = version.new_store(meter);
        let proxy = self
            .pre
            .instantiate_async(&mut store)
            .await
            .map_err(|error| Failure::of_instantiation(&error))?;
        Ok(Instance { store, proxy, served: 0, since: Instant::now() })
    }

    pub(super) async fn serve(
        &self,
        version: &Version,
        instance: Option<Instance>,
        meter: &Arc<Meter>,
        mut request: http::Request<WasiBody>,
        gone: Option<CancellationToken>,
        answer: &Arc<Answer>,
    ) -> Result<Instance, Failure> {
        let mut instance = match instance {
            Some(instance) => instance,
            None => self.instantiate(version, meter).await?,
        };
        instance.served = instance.served.saturating_add(1);
        // Dropped before the instance is: whoever reads the body must know by then.
        let unfinished = Unfinished(Some(answer));
        let Instance { store, proxy, .. } = &mut instance;
        store.set_epoch_deadline(1);
        store.data_mut().serve(gone, request.extensions_mut().remove());

        let host = |error: wasmtime::Error| Failure::Instance(format!("{error:#}"));
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request).map_err(host)?;
        let out = http
            .new_response_outparam_from_callback({
                let answer = answer.clone();
                move |given| {
                    answer.give(given.map_err(|code| Failure::GaveUp(format!("{code:?}"))));
                }
            })
            .map_err(host)?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, out)
            .await
            .map_err(|error| Failure::of_trap(&error, version.plugin.stack_overflow))?;
        unfinished.disarm();
        store.data_mut().callers_mut().only(None);
        Ok(instance)
    }
}
