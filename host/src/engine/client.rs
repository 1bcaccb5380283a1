//! `wasi:http/client` 0.3: for whom a request is made.
//!
//! Owns one thing that wasmtime's own client does not know: in an instance that serves several requests at a
//! time, which of them a request to another server or plugin belongs to. The request itself is wasmtime's.

use super::state::State;
use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::client::{self, HostWithStore};
use wasmtime_wasi_http::p3::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView};

/// Names the view for the linker.
struct Client;

impl HasData for Client {
    type Data<'a> = WasiHttpCtxView<'a>;
}

/// *Link*: what wasmtime links for 0.3, with a client that knows for whom.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    client::add_to_linker::<State, Client>(linker, State::http)?;
    types::add_to_linker::<State, WasiHttp>(linker, State::http)
}

impl HostWithStore<State> for Client {
    async fn send(
        accessor: &Accessor<State, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
        accessor
            .with(|mut access| -> wasmtime::Result<()> {
                let mut store = access.as_context_mut();
                let by_task = store.data().goes_by_task();
                // The last of the stack is the task that the host started.
                let task = if by_task { store.async_call_stack()?.last() } else { None };
                store.data_mut().next_request_of(task);
                Ok(())
            })
            .map_err(TrappableError::trap)?;
        // Its first step, before anything else can run in this store, is to hand the request over.
        WasiHttp::send(&accessor.with_getter::<WasiHttp>(State::http), request).await
    }
}
