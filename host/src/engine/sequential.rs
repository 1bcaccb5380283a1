//! wasi:http 0.2: one request at a time in an instance.
//!
//! Owns the call into `wasi:http/incoming-handler`. The instance is handed back only by a request that
//! ended well.

use super::failure::Failure;
use super::meter::Meter;
use super::state::State;
use super::version::{Answer, Version};
use std::sync::Arc;
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

impl Sequential {
    pub(super) fn new(pre: ProxyPre<State>) -> Self {
        Self { pre }
    }

    pub(super) async fn serve(
        &self,
        version: &Version,
        instance: Option<Instance>,
        meter: &Arc<Meter>,
        request: http::Request<WasiBody>,
        gone: Option<CancellationToken>,
        answer: &Arc<Answer>,
    ) -> Result<Instance, Failure> {
        let mut instance = match instance {
            Some(instance) => instance,
            None => {
                let mut store = version.new_store(meter);
                let proxy = self
                    .pre
                    .instantiate_async(&mut store)
                    .await
                    .map_err(|error| Failure::of_instantiation(&error))?;
                Instance { store, proxy, served: 0, since: Instant::now() }
            }
        };
        instance.served = instance.served.saturating_add(1);
        let Instance { store, proxy, .. } = &mut instance;
        store.set_epoch_deadline(1);
        store.data_mut().serve(gone);

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
            .call_handle(store, request, out)
            .await
            .map_err(|error| Failure::Trapped(format!("{error:?}")))?;
        Ok(instance)
    }
}
