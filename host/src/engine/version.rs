//! A component that is loaded, linked and ready to serve.
//!
//! Owns what all requests to one version share: its queue, its instances that wait for the next request,
//! its counters. It must never let an instance serve again after a trap, a deadline or a client that went
//! away in the middle: what state such an instance is in, nobody knows.

use super::admission::{Admission, Permit};
use super::answer::{Answer, StopUnlessAnswered};
use super::breaker::{Breaker, BreakerStatus, Change, Ticket};
use super::concurrent::Concurrent;
use super::failure::{Failure, Reasons};
use super::idle::IdleCount;
use super::lane::{Lane, Owner, Run, SlowLane, Stop};
use super::meter::{Meter, SLICE, Verdict};
use super::room::RoomGuest;
use super::sequential::{Instance, Sequential};
use super::state::{Context, State};
use super::verifying::{self, Verifying};
use super::watch::Watch;
use crate::body::{self, Body, Exchange, GuestBody};
use crate::config::Plugin;
use guesthouse_bindings::called::exports::guesthouse::auth::verifier::Credentials;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;

/// How long a plugin that burnt a slice starts its requests on the slow lane.
const SLOW_FOR: Duration = Duration::from_secs(1);

/// Numbers of loaded versions: never the same twice in the life of the process.
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// Which interface a component answers through.
pub(super) enum Kind {
    /// wasi:http 0.2: an instance serves one request after the other.
    Sequential(Sequential),
    /// wasi:http 0.3: an instance serves several at a time.
    Concurrent(Concurrent),
    /// Neither: there are only rooms.
    RoomsOnly,
}

/// What a version has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that were given to the plugin.
    pub requests: AtomicU64,
    /// Instances that were made.
    pub instances: AtomicU64,
    /// Traps, deadlines and memory caps included.
    pub failures: AtomicU64,
    /// The same by what they were.
    pub reasons: Reasons,
    /// Requests that were moved to the slow lane.
    pub moved: AtomicU64,
    /// CPU time in microseconds.
    pub cpu: AtomicU64,
}

/// A loaded version of a plugin.
pub struct Version {
    /// Its part of the configuration.
    pub plugin: Arc<Plugin>,
    /// Its number among the versions of the plugin.
    pub number: u64,
    /// SHA-256 of the component.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// What it has done.
    pub counters: Counters,
    pub(super) context: Arc<Context>,
    pub(super) engine: wasmtime::Engine,
    kind: Kind,
    pub(super) room: Option<RoomGuest>,
    pub(super) verifying: Option<Verifying>,
    serial: u64,
    admission: Admission,
    pub(super) breaker: Arc<Breaker>,
    /// None: it is no canary.
    pub(super) watch: OnceLock<Arc<Watch>>,
    slow: Arc<SlowLane>,
    /// For each serving thread one list, and one for the slow lane.
    pub(super) idle: Vec<Mutex<VecDeque<Instance>>>,
    /// Instances of the whole house that wait.
    pub(super) idle_in_all: Arc<IdleCount>,
    /// Instances for several requests, waiting or not.
    pub(super) shared_instances: Arc<AtomicUsize>,
    born: Instant,
    /// Until when requests start on the slow lane, in milliseconds since `born`.
    slow_until: AtomicU64,
    /// Set when another version has taken its place: from then on nothing is kept for a next request.
    pub(super) retired: CancellationToken,
    /// The same for the path of a request, where a lock would be felt.
    pub(super) retiring: AtomicBool,
    /// Set when the requests that began with it have had their time.
    pub(super) cut: CancellationToken,
    /// How long that time was, for the message.
    drain: OnceLock<Duration>,
    /// Dropped last: tells that the rest is gone.
    gone: DropGuard,
}

impl Version {
    #[allow(clippy::too_many_arguments, reason = "called in one place, with everything by name")]
    pub(super) fn new(
        plugin: Arc<Plugin>,
        number: u64,
        digest: String,
        size: u64,
        context: Arc<Context>,
        engine: wasmtime::Engine,
        kind: Kind,
        room: Option<RoomGuest>,
        verifying: Option<Verifying>,
        admission: Admission,
        slow: Arc<SlowLane>,
        fast_threads: usize,
        idle_in_all: Arc<IdleCount>,
    ) -> Arc<Self> {
        let breaker = Breaker::new(plugin.breaker);
        Arc::new(Self {
            plugin,
            number,
            digest,
            size,
            counters: Counters::default(),
            context,
            engine,
            kind,
            room,
            verifying,
            serial: SERIALS.fetch_add(1, Relaxed),
            admission,
            breaker,
            watch: OnceLock::new(),
            slow,
            idle: (0..=fast_threads).map(|_| Mutex::default()).collect(),
            idle_in_all,
            shared_instances: Arc::default(),
            born: Instant::now(),
            slow_until: AtomicU64::new(0),
            retired: CancellationToken::new(),
            retiring: AtomicBool::new(false),
            cut: CancellationToken::new(),
            drain: OnceLock::new(),
            gone: CancellationToken::new().drop_guard(),
        })
    }

    /// Which wasi:http it speaks.
    pub fn interface(&self) -> &'static str {
        match self.kind {
            Kind::Sequential(_) => "wasi:http 0.2",
            Kind::Concurrent(_) => "wasi:http 0.3",
            Kind::RoomsOnly => "rooms",
        }
    }

    /// Whether it exports `guesthouse:auth/verifier`.
    pub fn is_verifier(&self) -> bool {
        self.verifying.is_some()
    }

    /// Tells it from every other version that was ever loaded in this process.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Requests at work.
    pub fn running(&self) -> usize {
        self.admission.running()
    }

    /// Requests that wait for their turn.
    pub fn queued(&self) -> u32 {
        self.admission.waiting()
    }

    /// Gives a request to the plugin and waits for the head of its response. With `patience` it waits for its
    /// turn no longer than that.
    ///
    /// # Errors
    /// See [`Failure`]; the operator's log has been told.
    pub async fn handle(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        exchange: &Arc<Exchange>,
        patience: Option<Duration>,
    ) -> Result<http::Response<Body>, Failure> {
        let ticket = self.breaker.enter().map_err(|after| Failure::Broken { after })?;
        let now = tokio::time::Instant::now();
        let deadline = now + self.plugin.limits.wall;
        let admit = async {
            let Some(patience) = patience.filter(|patience| *patience < self.plugin.limits.wall)
            else {
                return self.admission.admit(deadline).await;
            };
            // Of all failures only this one says that the turn did not come.
            self.admission.admit(now + patience).await.map_err(|failure| match failure {
                Failure::Wall(_) => Failure::NoTurn(patience),
                failure => failure,
            })
        };
        let permit = tokio::select! {
            biased;
            permit = admit => permit?,
            () = self.cut.cancelled() => return Err(self.replaced()),
        };
        self.counters.requests.fetch_add(1, Relaxed);
        self.start(request, exchange, (permit, ticket), deadline, self.is_slow()).await
    }

    async fn start(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        exchange: &Arc<Exchange>,
        rights: (Permit, Ticket),
        deadline: tokio::time::Instant,
        slow: bool,
    ) -> Result<http::Response<Body>, Failure> {
        match &self.kind {
            Kind::Sequential(_) => {
                self.run_sequential(request, exchange, rights, deadline, slow).await
            }
            Kind::Concurrent(handler) => {
                handler.handle(self, request, exchange, rights, slow).await
            }
            // No route leads here: the version would not have been loaded.
            Kind::RoomsOnly => Err(Failure::Silent),
        }
    }

    /// Makes one instance, and sends it the request if there is one: what a version must be able to do before
    /// it takes over. Runs on the slow lane, away from those who are being served.
    ///
    /// # Errors
    /// What went wrong, within the limits of the plugin.
    pub async fn check(
        self: &Arc<Self>,
        request: Option<http::Request<WasiBody>>,
    ) -> Result<Option<http::StatusCode>, Failure> {
        let deadline = tokio::time::Instant::now() + self.plugin.limits.wall;
        let meter = Meter::new();
        meter.reset(self.plugin.limits.cpu);
        let (sender, receiver) = oneshot::channel();
        let work = {
            let (version, meter) = (self.clone(), meter.clone());
            async move {
                let made = tokio::time::timeout_at(deadline, version.make(&meter)).await;
                _ = sender.send(match made {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(failure)) => Err(version.refine(failure, &meter)),
                    Err(_) => Err(Failure::Wall(version.plugin.limits.wall)),
                });
            }
        };
        self.slow.start_slow(Run::new(Box::pin(work), meter, Arc::default()));
        receiver.await.unwrap_or(Err(Failure::Dropped))?;
        let Some(request) = request else { return Ok(None) };
        let ticket = self.breaker.enter().map_err(|after| Failure::Broken { after })?;
        let permit = self.admission.admit(deadline).await?;
        let response =
            self.start(request, &Arc::default(), (permit, ticket), deadline, true).await?;
        Ok(Some(response.status()))
    }

    /// Makes an instance and drops it.
    async fn make(&self, meter: &Arc<Meter>) -> Result<(), Failure> {
        match &self.kind {
            Kind::Sequential(guest) => guest.instantiate(self, meter).await.map(drop),
            Kind::Concurrent(guest) => guest.instantiate(self, meter).await,
            Kind::RoomsOnly => match &self.room {
                Some(guest) => guest.instantiate(self, meter).await.map(drop),
                None => Ok(()),
            },
        }
    }

    /// Another version has taken its place: instances that wait are dropped now, those at work when their
    /// request ends. Gives what is cancelled when all of it is gone.
    pub fn retire(&self) -> CancellationToken {
        self.retiring.store(true, Relaxed);
        self.retired.cancel();
        for list in &self.idle {
            let waiting = std::mem::take(&mut *list.lock());
            self.idle_in_all.give_back(waiting.len());
        }
        if let Some(verifying) = &self.verifying {
            verifying.clear();
        }
        self.gone.token().clone()
    }

    /// Ends the requests that are still at work after `drain`.
    pub fn cut(&self, drain: Duration) {
        _ = self.drain.set(drain);
        self.cut.cancel();
    }

    /// Why a request was cut.
    pub(super) fn replaced(&self) -> Failure {
        Failure::Replaced(self.drain.get().copied().unwrap_or_default())
    }

    async fn run_sequential(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        exchange: &Arc<Exchange>,
        rights: (Permit, Ticket),
        deadline: tokio::time::Instant,
        slow: bool,
    ) -> Result<http::Response<Body>, Failure> {
        let instance = self.take_idle(if slow { Lane::Slow(0) } else { Lane::here() });
        let meter = instance.as_ref().map_or_else(Meter::new, |i| i.meter().clone());
        meter.reset(self.plugin.limits.cpu);

        // Whoever asks nobody has nobody to tell.
        let gone = (!self.context.fetch.is_empty()).then(CancellationToken::new);
        let (sender, receiver) = oneshot::channel();
        let broken = Arc::<AtomicBool>::default();
        let answer = Arc::new(Answer { sender: Mutex::new(Some(sender)), broken: broken.clone() });
        let stop = Arc::new(Stop::default());
        let run = Run::new(
            Box::pin(self.clone().work(
                instance,
                meter.clone(),
                request,
                gone.clone(),
                (answer, exchange.clone()),
                rights,
                deadline,
            )),
            meter,
            stop.clone(),
        );
        if slow {
            self.slow.start_slow(run);
        } else {
            self.slow.start_fast(run, self.clone());
        }

        let mut guard = StopUnlessAnswered(&stop, false);
        let response = receiver.await.unwrap_or(Err(Failure::Dropped));
        guard.1 = true;
        response.map(|response| {
            let left = body::declared_length(response.headers());
            response.map(|body| {
                let body = match gone {
                    Some(gone) => GuestBody::telling(body, left, gone),
                    None => body.into(),
                };
                Body::Guest(body.unless(broken).of(exchange.clone()))
            })
        })
    }

    /// Asks the verifier who a client is, under the same limits as a request, but not under the breaker: a
    /// client that finds a token which makes the verifier trap would lock out everyone else with it.
    ///
    /// # Errors
    /// See [`Failure`]; the operator's log has been told. None of them means yes.
    pub async fn verify(
        self: &Arc<Self>,
        credentials: Credentials,
    ) -> Result<verifying::Verdict, Failure> {
        let deadline = tokio::time::Instant::now() + self.plugin.limits.wall;
        let permit = self.admission.admit(deadline).await?;
        let slow = self.is_slow();
        let lane = if slow { Lane::Slow(0) } else { Lane::here() };
        let instance = self.verifying.as_ref().and_then(|verifying| verifying.take_idle(lane));
        let meter = instance.as_ref().map_or_else(Meter::new, |i| i.meter().clone());
        meter.reset(self.plugin.limits.cpu);

        let (sender, receiver) = oneshot::channel();
        let stop = Arc::new(Stop::default());
        let version = self.clone();
        let work = {
            let meter = meter.clone();
            async move {
                let answer = version.ask(instance, &meter, &credentials, deadline).await;
                drop(permit);
                // Nobody is there when the client went away.
                _ = sender.send(answer);
            }
        };
        let run = Run::new(Box::pin(work), meter, stop.clone());
        if slow {
            self.slow.start_slow(run);
        } else {
            self.slow.start_fast(run, self.clone());
        }
        let mut guard = StopUnlessAnswered(&stop, false);
        let answer = receiver.await.unwrap_or(Err(Failure::Dropped));
        guard.1 = true;
        answer
    }

    /// One question to the verifier, from start to end.
    async fn ask(
        &self,
        instance: Option<verifying::Asked>,
        meter: &Arc<Meter>,
        credentials: &Credentials,
        deadline: tokio::time::Instant,
    ) -> Result<verifying::Verdict, Failure> {
        let Some(verifying) = &self.verifying else {
            return Err(Failure::Instance("the plugin exports no verifier".to_owned()));
        };
        let asking = verifying.ask(self, instance, meter, credentials);
        let ended = tokio::time::timeout_at(deadline, asking).await;
        self.bill(meter);
        let answer = match ended {
            Ok(Ok((instance, verdict))) => {
                if !self.retired.is_cancelled() {
                    verifying.put_back(instance, self.plugin.instances.reuse);
                }
                Ok(verdict)
            }
            Ok(Err(failure)) => Err(self.refine(failure, meter)),
            Err(_) => Err(Failure::Wall(self.plugin.limits.wall)),
        };
        answer.inspect_err(|failure| self.report(failure, None))
    }

    /// One request in one instance, from start to end.
    #[allow(clippy::too_many_arguments, reason = "called in one place, with everything by name")]
    async fn work(
        self: Arc<Self>,
        instance: Option<Instance>,
        meter: Arc<Meter>,
        request: http::Request<WasiBody>,
        gone: Option<CancellationToken>,
        (answer, exchange): (Arc<Answer>, Arc<Exchange>),
        (permit, ticket): (Permit, Ticket),
        deadline: tokio::time::Instant,
    ) {
        let Kind::Sequential(guest) = &self.kind else { return };
        let id = request.headers().get("x-request-id").cloned();
        let work = guest.serve(&self, instance, &meter, request, gone, &answer);
        let work = tokio::time::timeout_at(deadline, work);
        let ended = tokio::select! {
            biased;
            ended = work => ended,
            () = self.cut.cancelled() => Ok(Err(self.replaced())),
        };
        self.bill(&meter);
        let failure = match ended {
            Ok(Ok(instance)) => {
                self.put_back(instance);
                answer.is_open().then_some(Failure::Silent)
            }
            Ok(Err(failure)) => Some(self.refine(failure, &meter)),
            Err(_) => Some(Failure::Wall(self.plugin.limits.wall)),
        };
        match failure {
            Some(failure) => {
                self.report(&failure, id.as_ref());
                // Many a guest panics when its client breaks off: a client must not be able to open the breaker.
                if failure.is_own_fault() && !exchange.client_failed() {
                    self.trapped();
                    self.note(self.breaker.bad(ticket));
                }
                answer.give(Err(failure));
            }
            None => self.note(self.breaker.good(ticket)),
        }
        drop(permit);
    }

    /// Ends the measuring of a request and counts what it has taken. As long as requests burn a slice, the next begin
    /// on the slow lane.
    fn bill(&self, meter: &Meter) {
        meter.end();
        if meter.burst() > SLICE {
            self.mark_slow();
        }
        let used = meter.used();
        self.counters.cpu.fetch_add(u64::try_from(used.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Tells the operator how the breaker stands, when that has changed.
    pub(super) fn note(&self, change: Option<Change>) {
        match change {
            Some(Change::Opened { pause, failures }) => tracing::error!(
                plugin = %self.plugin.name,
                "the plugin failed {failures} times in a row: its requests are answered 503 for {pause:?}, \
                 then one is let through to see whether it works again (breaker.failures, breaker.backoff)"
            ),
            Some(Change::Closed) => tracing::info!(
                plugin = %self.plugin.name,
                "the plugin answers again: its requests go through"
            ),
            None => {}
        }
    }

    /// How the circuit breaker stands.
    pub fn breaker(&self) -> BreakerStatus {
        self.breaker.status()
    }

    /// What a trap really was.
    pub(super) fn refine(&self, failure: Failure, meter: &Meter) -> Failure {
        match (failure, meter.verdict()) {
            (Failure::Trapped(_) | Failure::Instance(_), Verdict::Cpu) => {
                Failure::Cpu(self.plugin.limits.cpu)
            }
            (Failure::Trapped(_), Verdict::Wall) => Failure::Wall(self.plugin.limits.wall),
            // No start for want of memory is a lack of places: it may be there in a moment.
            (Failure::Instance(reason), Verdict::MemoryOfAll) => Failure::NoPlace(reason),
            (Failure::Trapped(_), Verdict::MemoryOfAll) => Failure::MemoryOfAll,
            (Failure::Trapped(_) | Failure::Instance(_), Verdict::Memory) => {
                Failure::Memory(self.plugin.limits.memory)
            }
            (failure, _) => failure,
        }
    }

    /// Tells the operator.
    pub(crate) fn report(&self, failure: &Failure, id: Option<&http::HeaderValue>) {
        self.counters.failures.fetch_add(1, Relaxed);
        self.counters.reasons.count(failure);
        if !self.may_say() {
            return;
        }
        tracing::error!(
            plugin = %self.plugin.name,
            version = self.number,
            digest = self.digest.get(..12).unwrap_or_default(),
            request = id.and_then(|id| id.to_str().ok()).unwrap_or("-"),
            "{failure}"
        );
    }

    /// Tells the operator that a request was turned away, which is no failure of the plugin.
    pub(crate) fn turned_away(&self, reason: &Failure) {
        if self.may_say() {
            tracing::warn!(plugin = %self.plugin.name, "{reason}");
        }
    }

    /// Whether there may be a line in the log, now: who can make a plugin fail must not be able to fill a disk.
    fn may_say(&self) -> bool {
        let dropped =
            |number| format!("{number} failures before this one were not logged (limits.log)");
        let beyond = |most| {
            format!(
                "more than {most} failures in a second: the rest of them is only counted (limits.log)"
            )
        };
        self.context.reports.admits(&self.plugin.name, dropped, beyond)
    }

    pub(super) fn new_store(&self, meter: &Arc<Meter>) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(self.context.clone(), meter.clone()));
        store.limiter(State::memory);
        store.set_epoch_deadline(1);
        let meter = meter.clone();
        store.epoch_deadline_callback(move |_| meter.tick());
        self.counters.instances.fetch_add(1, Relaxed);
        store
    }

    pub(super) fn slow_lane(&self) -> &Arc<SlowLane> {
        &self.slow
    }

    pub(super) fn mark_slow(&self) {
        let slow_for = u64::try_from(SLOW_FOR.as_millis()).unwrap_or(u64::MAX);
        self.slow_until.store(self.now().saturating_add(slow_for), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Owner for Version {
    fn moved(&self) {
        self.counters.moved.fetch_add(1, Relaxed);
        self.mark_slow();
    }

    fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Relaxed);
        until != 0 && self.now() < until
    }
}
