//! wasi:http 0.3: several requests at a time in an instance.
//!
//! Owns the policy around wasmtime's `ProxyHandler`: when an instance takes another request, how long it
//! lives, and what is told of its end. wasmtime calls its support for 0.3 experimental; nothing of ours
//! depends on it.

use super::admission::Permit;
use super::breaker::Ticket;
use super::failure::Failure;
use super::idle::IdlePlace;
use super::lane::{Lane, Run, Stop};
use super::meter::{Meter, SLICE, Verdict};
use super::state::State;
use super::version::Version;
use crate::auth::Caller;
use crate::body::{Body, Exchange};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    self, ExpirationError, HandlerState, InstantiationError, ProxyHandler, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// How long an instance of a version that was replaced waits for a request that is on its way.
const RETIRED_IDLE: Duration = Duration::from_millis(100);

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
        mut request: http::Request<WasiBody>,
        exchange: &Arc<Exchange>,
        (permit, ticket): (Permit, Ticket),
        slow: bool,
    ) -> Result<http::Response<Body>, Failure> {
        let id = request.headers().get("x-request-id").cloned();
        let caller = request.extensions_mut().remove();
        let fate = Arc::new(Fate {
            instance: OnceLock::new(),
            exchange: exchange.clone(),
            caller,
            _permit: permit,
        });
        let answer = if slow {
            self.handle_slowly(version, fate.clone(), request).await
        } else {
            let Some(handler) = self.handler(version, Lane::here()) else {
                return Err(Failure::Dropped);
            };
            handler.handle(fate.clone(), request).await
        };
        match answer {
            // The place is taken until the body has ended: the guest works until then.
            Ok(response) => Ok(response.map(|body| {
                let mut body =
                    Guarded { body, fate, ticket: Some(ticket), version: version.clone() };
                if body.body.is_end_stream() {
                    body.ended(true);
                }
                Body::stream(body)
            })),
            Err(error) => {
                let (failure, told) = match fate.instance.get() {
                    // What ended the instance was told by the instance, once for all its requests.
                    Some(failure) => (failure.clone(), true),
                    None => (failure(version, &error), false),
                };
                if !told {
                    version.report(&failure, id.as_ref());
                }
                if failure.is_own_fault() && !exchange.client_failed() {
                    // What was told was counted with its instance.
                    if !told {
                        version.trapped();
                    }
                    version.note(if told {
                        version.breaker.bad_probe(ticket)
                    } else {
                        version.breaker.bad(ticket)
                    });
                }
                Err(failure)
            }
        }
    }

    /// Makes an instance and drops it: can it be made?
    pub(super) async fn instantiate(
        &self,
        version: &Version,
        meter: &Arc<Meter>,
    ) -> Result<(), Failure> {
        let mut store = version.new_store(meter);
        let made = self.pre.instantiate_async(&mut store).await;
        made.map(drop).map_err(|error| Failure::of_instantiation(&error))
    }

    async fn handle_slowly(
        &self,
        version: &Arc<Version>,
        fate: Arc<Fate>,
        request: http::Request<WasiBody>,
    ) -> wasmtime::Result<http::Response<WasiBody>> {
        let Some(handler) = self.handler(version, Lane::Slow(0)).cloned() else {
            wasmtime::bail!("there is no slow lane");
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = async move {
            _ = sender.send(handler.handle(fate, request).await);
        };
        let run = Run::new(Box::pin(work), Meter::new(), Arc::<Stop>::default());
        version.slow_lane().start_slow(run);
        receiver.await.unwrap_or_else(|_| Err(handler::TrapOrPanicError.into()))
    }
}

fn failure(version: &Version, error: &wasmtime::Error) -> Failure {
    if version.cut.is_cancelled() {
        return version.replaced();
    }
    if error.is::<ExpirationError>() {
        return Failure::Wall(version.plugin.limits.wall);
    }
    if let Some(error) = error.downcast_ref::<InstantiationError<Arc<Fate>>>() {
        return match error.error.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            None => Failure::of_instantiation(&error.error),
        };
    }
    if let Some(code) =
        error.downcast_ref::<wasmtime_wasi_http::p3::bindings::http::types::ErrorCode>()
    {
        return Failure::GaveUp(format!("{code:?}"));
    }
    Failure::Trapped(format!("{error:?}"))
}

/// What is known of one request on both sides of its instance.
struct Fate {
    /// Why its instance ended, if that was before its time.
    instance: OnceLock<Failure>,
    /// Who calls. The guest may ask for that as long as it works on the request.
    caller: Option<Arc<Caller>>,
    exchange: Arc<Exchange>,
    /// The place is taken as long as the guest works on it, also when the client is gone.
    _permit: Permit,
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
        let Some(place) = version.instance_place() else {
            return Err(wasmtime::Error::new(Failure::NoPlace("all are in use".to_owned())));
        };
        let meter = Meter::new_shared();
        meter.reset(version.plugin.limits.cpu);
        let mut store = version.new_store(&meter);
        let wall = version.plugin.limits.wall;
        let pre = self.pre.instantiate_async(&mut store);
        // A start function is the guest's code, too.
        let proxy = match tokio::time::timeout(wall, measured(&meter, pre)).await {
            Ok(Ok(proxy)) => handler::Proxy::P3(proxy),
            Ok(Err(error)) => {
                let failure = version.refine(Failure::of_instantiation(&error), &meter);
                return Err(wasmtime::Error::new(failure));
            }
            Err(_) => return Err(wasmtime::Error::new(Failure::Wall(wall))),
        };
        Ok(handler::Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: Lifetime {
                idle: version.plugin.instances.idle,
                wall: version.plugin.limits.wall,
                meter: meter.clone(),
                version: Arc::downgrade(&version),
                alarm: None,
                retired: Box::pin(version.retired.clone().cancelled_owned()),
                cut: Box::pin(version.cut.clone().cancelled_owned()),
            },
            state: Worker { version, meter, fates: Mutex::default(), _place: place },
        })
    }
}

/// When an instance ends.
struct Lifetime {
    idle: Duration,
    wall: Duration,
    meter: Arc<Meter>,
    version: Weak<Version>,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Another version has taken its place.
    retired: Pin<Box<WaitForCancellationFutureOwned>>,
    /// And its requests have had their time.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
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
        if self.meter.burst() > SLICE
            && let Some(version) = self.version.upgrade()
        {
            // An instance can't change its thread, but the requests after this one can begin elsewhere.
            version.mark_slow();
        }
        let retired = self.retired.as_mut().poll(cx).is_ready();
        if retired && self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let end = start
            + match status {
                WorkerStatus::Idle if retired => self.idle.min(RETIRED_IDLE),
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
        let poll = match &mut self.alarm {
            Some((_, alarm)) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        };
        if poll.is_ready() && !matches!(status, WorkerStatus::Idle) {
            self.meter.condemn(Verdict::Wall);
        }
        poll
    }
}

/// What an instance is asked about itself.
struct Worker {
    version: Arc<Version>,
    meter: Arc<Meter>,
    /// The requests that were given to it.
    fates: Mutex<Vec<Weak<Fate>>>,
    _place: IdlePlace,
}

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = Arc<Fate>;

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
        mut store: StoreContextMut<'_, State>,
        fate: Arc<Fate>,
        task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        self.meter.reset(self.version.plugin.limits.cpu);
        store.data_mut().serve_one_more(task, fate.caller.as_ref());
        let mut fates = self.fates.lock();
        fates.retain(|fate| fate.strong_count() > 0);
        fates.push(Arc::downgrade(&fate));
        let deadline = tokio::time::sleep(self.version.plugin.limits.wall);
        Box::pin(async move {
            deadline.await;
            drop(fate);
        })
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        // The bodies learn why they end before their pipes are closed, which the store's end does.
        if let Err(error) = result {
            let failure = if self.version.cut.is_cancelled() {
                self.version.replaced()
            } else {
                self.version.refine(Failure::Trapped(format!("{error:?}")), &self.meter)
            };
            self.version.report(&failure, None);
            let mut alone = true;
            for fate in self.fates.lock().drain(..).filter_map(|fate| fate.upgrade()) {
                alone &= fate.exchange.client_failed();
                _ = fate.instance.set(failure.clone());
            }
            // Without a client that did its part, it may have failed for want of one.
            if failure.is_own_fault() && !alone {
                self.version.trapped();
                self.version.note(self.version.breaker.bad_instance());
            }
        }
        drop(store);
    }
}

/// Runs with the meter on.
async fn measured<F: Future>(meter: &Meter, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        meter.begin();
        let poll = work.as_mut().poll(cx);
        meter.end();
        poll
    })
    .await
}

/// A body that holds its plugin's place, and knows how it ended.
struct Guarded {
    body: WasiBody,
    fate: Arc<Fate>,
    ticket: Option<Ticket>,
    version: Arc<Version>,
}

impl Guarded {
    fn ended(&mut self, well: bool) {
        let Some(ticket) = self.ticket.take() else { return };
        let breaker = &self.version.breaker;
        let change = if well {
            breaker.good(ticket)
        } else if self.fate.instance.get().is_some_and(Failure::is_own_fault) {
            breaker.bad_probe(ticket)
        } else {
            return;
        };
        self.version.note(change);
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = crate::body::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(None) if self.fate.instance.get().is_some() => {
                self.ended(false);
                let reason = "it ended in the middle; the log says why".to_owned();
                return Poll::Ready(Some(Err(crate::body::BodyError::Plugin(reason))));
            }
            Poll::Ready(None) => self.ended(true),
            Poll::Ready(Some(Err(_))) => self.ended(false),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.ended(true),
            _ => {}
        }
        poll.map_err(|error| crate::body::BodyError::Plugin(error.to_string()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
