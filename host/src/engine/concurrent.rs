//! wasi:http 0.3: several requests at a time in an instance.
//!
//! Owns the policy around wasmtime's `ProxyHandler`: when an instance takes another request, how long it
//! lives, and what is told of its end. wasmtime calls its support for 0.3 experimental; nothing of ours
//! depends on it.

use super::admission::Permit;
use super::failure::Failure;
use super::lane::{Lane, Run, Stop};
use super::meter::Meter;
use super::state::State;
use super::version::Version;
use crate::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    self, ExpirationError, HandlerState, InstantiationError, ProxyHandler, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// A component that exports `wasi:http/handler`.
pub(super) struct Concurrent {
    pre: ServicePre<State>,
    /// For each serving thread one, and one for the slow lane.
    handlers: Vec<OnceLock<ProxyHandler<Maker>>>,
}

impl Concurrent {
    pub(super) fn new(pre: ServicePre<State>, fast_threads: usize) -> Self {
        Self { pre, handlers: (0..=fast_threads).map(|_| OnceLock::new()).collect() }
    }

    fn handler(&self, version: &Arc<Version>, lane: Lane) -> Option<&ProxyHandler<Maker>> {
        let slot = match lane {
            Lane::Fast(number) => self.handlers.get(number).or(self.handlers.last()),
            Lane::Slow(_) => self.handlers.last(),
        }?;
        Some(slot.get_or_init(|| {
            ProxyHandler::new(Maker { pre: self.pre.clone(), version: Arc::downgrade(version) })
        }))
    }

    pub(super) async fn handle(
        &self,
        version: &Arc<Version>,
        request: http::Request<WasiBody>,
        permit: Permit,
    ) -> Result<http::Response<Body>, Failure> {
        let id = request.headers().get("x-request-id").cloned();
        let answer = if version.is_slow() {
            self.handle_slowly(version, request).await
        } else {
            let Some(handler) = self.handler(version, Lane::here()) else {
                return Err(Failure::Dropped);
            };
            handler.handle((), request).await
        };
        match answer {
            // The place is taken until the body has ended: the guest works until then.
            Ok(response) => {
                Ok(response.map(|body| Body::stream(Guarded { body, _permit: permit })))
            }
            Err(error) => {
                let failure = failure(version, &error);
                version.report(&failure, id.as_ref());
                Err(failure)
            }
        }
    }

    async fn handle_slowly(
        &self,
        version: &Arc<Version>,
        request: http::Request<WasiBody>,
    ) -> wasmtime::Result<http::Response<WasiBody>> {
        let Some(handler) = self.handler(version, Lane::Slow(0)).cloned() else {
            wasmtime::bail!("there is no slow lane");
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = async move {
            _ = sender.send(handler.handle((), request).await);
        };
        let run = Run::new(Box::pin(work), Meter::new(), Arc::<Stop>::default());
        version.slow_lane().start_slow(run);
        receiver.await.unwrap_or_else(|_| Err(handler::TrapOrPanicError.into()))
    }
}

fn failure(version: &Version, error: &wasmtime::Error) -> Failure {
    if error.is::<ExpirationError>() {
        return Failure::Wall(version.plugin.limits.wall);
    }
    if let Some(error) = error.downcast_ref::<InstantiationError<()>>() {
        return Failure::Instance(format!("{:?}", error.error));
    }
    if let Some(code) =
        error.downcast_ref::<wasmtime_wasi_http::p3::bindings::http::types::ErrorCode>()
    {
        return Failure::GaveUp(format!("{code:?}"));
    }
    Failure::Trapped(format!("{error:?}"))
}

/// Makes instances of one version for one thread.
struct Maker {
    pre: ServicePre<State>,
    /// Weak, since the version holds the handler.
    version: Weak<Version>,
}

impl HandlerState for Maker {
    type StoreData = State;
    type WorkerExpiration = Lifetime;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<handler::Instance<State, Lifetime, Worker>> {
        let Some(version) = self.version.upgrade() else {
            wasmtime::bail!("the version is being dropped");
        };
        let meter = Meter::new();
        meter.reset(version.plugin.limits.cpu);
        let mut store = version.new_store(&meter);
        let proxy = handler::Proxy::P3(self.pre.instantiate_async(&mut store).await?);
        Ok(handler::Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: Lifetime {
                idle: version.plugin.instances.idle,
                wall: version.plugin.limits.wall,
                meter: meter.clone(),
                alarm: None,
            },
            state: Worker { version, meter },
        })
    }
}

/// When an instance ends.
struct Lifetime {
    idle: Duration,
    wall: Duration,
    meter: Arc<Meter>,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl WorkerExpiration for Lifetime {
    /// Called after each poll of the instance that left it waiting.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        self.meter.paused();
        let end = start
            + match status {
                WorkerStatus::Idle => self.idle,
                WorkerStatus::Requests | WorkerStatus::PostReturn => self.wall,
            };
        match &mut self.alarm {
            Some((at, _)) if *at == end => {}
            Some((at, alarm)) => {
                *at = end;
                alarm.as_mut().reset(end.into());
            }
            none => *none = Some((end, Box::pin(tokio::time::sleep_until(end.into())))),
        }
        match &mut self.alarm {
            Some((_, alarm)) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// What an instance is asked about itself.
struct Worker {
    version: Arc<Version>,
    meter: Arc<Meter>,
}

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        let instances = self.version.plugin.instances;
        if total >= instances.reuse as usize {
            ShouldAccept::Never
        } else if concurrent >= instances.concurrent as usize {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        self.meter.reset(self.version.plugin.limits.cpu);
        Box::pin(tokio::time::sleep(self.version.plugin.limits.wall))
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        drop(store);
        if let Err(error) = result {
            let failure = self.version.refine(Failure::Trapped(format!("{error:?}")), &self.meter);
            if matches!(failure, Failure::Cpu(_)) {
                self.version.mark_slow();
            }
            self.version.report(&failure, None);
        }
    }
}

/// A body that holds its plugin's place.
struct Guarded {
    body: WasiBody,
    _permit: Permit,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = crate::body::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body)
            .poll_frame(cx)
            .map_err(|error| crate::body::BodyError::Plugin(error.to_string()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
