//! Rooms: one event at a time in an instance.
//!
//! Owns the calls into `guesthouse:rooms/room`, and the instance of a room. An instance serves events of one room
//! only, as long as they end well. It runs in the task of its room; an event that computes for long goes on in
//! the slow lane, as a request does.

use super::failure::Failure;
use super::idle::IdleCount;
use super::lane::{Owner, Run};
use super::meter::Meter;
use super::state::State;
use super::version::Version;
use crate::rooms::event::Event;
use guesthouse_bindings::rooms::types::{
    Accept, AlarmInfo, CloseInfo, ConnId, Connection, Message, Request, Response,
};
use guesthouse_bindings::rooms::{RoomOnly, RoomOnlyPre};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::InstancePre;

/// A component that exports `guesthouse:rooms/room`.
pub(super) struct RoomGuest {
    pre: RoomOnlyPre<State>,
}

impl RoomGuest {
    /// None: it does not export it.
    pub(super) fn of(pre: InstancePre<State>) -> Option<Self> {
        RoomOnlyPre::new(pre).ok().map(|pre| Self { pre })
    }

    /// A fresh instance.
    pub(super) async fn instantiate(
        &self,
        version: &Version,
        meter: &Arc<Meter>,
    ) -> Result<(Store<State>, RoomOnly), Failure> {
        let mut store = version.new_store(meter);
        let made = self.pre.instantiate_async(&mut store).await;
        let room = made.map_err(|error| Failure::of_instantiation(&error))?;
        Ok((store, room))
    }
}

/// A room's event as the lanes see it: one room that spins does not send the others of its plugin away.
struct EventOwner {
    moved: AtomicBool,
    version: Arc<Version>,
}

impl Owner for EventOwner {
    fn moved(&self) {
        self.moved.store(true, Relaxed);
        self.version.counters.moved.fetch_add(1, Relaxed);
    }

    fn is_slow(&self) -> bool {
        self.version.is_slow()
    }
}

/// A place for an instance; given back when it is dropped.
struct Place(Arc<IdleCount>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

/// The instance of a room; made at its first call.
pub struct RoomInstance {
    made: Option<(Store<State>, RoomOnly)>,
    version: Arc<Version>,
    _place: Place,
}

impl RoomInstance {
    /// Whose code it runs.
    #[must_use]
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }
}

/// An export of a room, and what it is called with.
pub enum Call {
    /// `on-start`
    Start,
    /// `on-connect`
    Connect(ConnId, Request),
    /// `on-message`
    Message(ConnId, Message),
    /// `on-close`
    Close(Connection, CloseInfo),
    /// `on-alarm`
    Alarm(AlarmInfo),
    /// `on-request`
    Request(Request),
}

/// What it returned.
#[derive(Debug)]
pub enum Returned {
    /// `ok`
    Done,
    /// `on-connect` took the client in.
    Accept(Accept),
    /// `on-request` answered, or `on-connect` refused.
    Response(Response),
    /// `err`: for the log.
    Refused(String),
}

impl Returned {
    /// Whether a canary that returns this does worse than it should.
    fn is_bad(&self) -> bool {
        match self {
            Self::Done | Self::Accept(_) => false,
            Self::Response(response) => response.status >= 500,
            Self::Refused(_) => true,
        }
    }
}

/// What came of a call.
pub struct Ran {
    /// None: it is not to be used any more.
    pub instance: Option<RoomInstance>,
    /// None: the process is ending.
    pub event: Option<Box<Event>>,
    /// What was returned, or why nothing was.
    pub result: Result<Returned, Failure>,
    /// Whether it went on in the slow lane.
    pub moved: bool,
}

impl Version {
    /// A place for an instance of a room; none: there are as many as there may be.
    #[must_use]
    pub fn room_instance(self: &Arc<Self>) -> Option<RoomInstance> {
        self.idle_in_all.take().then(|| RoomInstance {
            made: None,
            version: self.clone(),
            _place: Place(self.idle_in_all.clone()),
        })
    }

    /// Runs one export for one event. The operator's log is told of failures.
    pub async fn run_room(
        self: &Arc<Self>,
        mut instance: RoomInstance,
        event: Box<Event>,
        call: Call,
        slow: bool,
    ) -> Ran {
        let name = event.room.key.name.clone();
        let start = matches!(call, Call::Start);
        let meter = instance
            .made
            .as_ref()
            .map_or_else(Meter::new, |(store, _)| store.data().meter().clone());
        meter.reset(self.plugin.limits.cpu);
        let (sender, receiver) = oneshot::channel();
        let version = self.clone();
        let work = {
            let meter = meter.clone();
            async move {
                let (event, result) = version.room_event(&mut instance, event, call, &meter).await;
                meter.end();
                _ = sender.send((instance, event, result));
            }
        };
        let run = Run::new(Box::pin(work), meter.clone(), Arc::default());
        let owner = Arc::new(EventOwner { moved: AtomicBool::new(slow), version: self.clone() });
        if slow {
            self.slow_lane().start_slow(run);
        } else {
            self.slow_lane().run_here(run, owner.clone()).await;
        }
        let Ok((instance, event, result)) = receiver.await else {
            let result = Err(Failure::Dropped);
            return Ran { instance: None, event: None, result, moved: false };
        };
        let micros = u64::try_from(meter.used().as_micros()).unwrap_or(u64::MAX);
        self.counters.requests.fetch_add(1, Relaxed);
        self.counters.cpu.fetch_add(micros, Relaxed);
        let moved = owner.moved.load(Relaxed);
        match result {
            Ok(returned) if start && !returned.is_bad() => {
                // The event for whose sake it was woken is still to come.
                Ran { instance: Some(instance), event, result: Ok(returned), moved }
            }
            Ok(returned) => {
                self.answered(returned.is_bad());
                Ran { instance: Some(instance), event, result: Ok(returned), moved }
            }
            Err(failure) => {
                let failure = self.refine(failure, &meter);
                self.answered(true);
                if failure.is_own_fault() {
                    self.trapped();
                }
                self.report_room(&failure, &name);
                Ran { instance: None, event, result: Err(failure), moved }
            }
        }
    }

    async fn room_event(
        &self,
        instance: &mut RoomInstance,
        event: Box<Event>,
        call: Call,
        meter: &Arc<Meter>,
    ) -> (Option<Box<Event>>, Result<Returned, Failure>) {
        let Some(guest) = &self.room else {
            return (Some(event), Err(Failure::Silent));
        };
        let deadline = tokio::time::Instant::now() + self.plugin.limits.wall;
        let (store, room) = match &mut instance.made {
            Some(made) => made,
            none => {
                let made = guest.instantiate(self, meter);
                match tokio::time::timeout_at(deadline, made).await {
                    Ok(Ok(made)) => none.insert(made),
                    Ok(Err(failure)) => return (Some(event), Err(failure)),
                    Err(_) => return (Some(event), Err(Failure::Wall(self.plugin.limits.wall))),
                }
            }
        };
        store.data_mut().enter_room(event);
        store.set_epoch_deadline(1);
        let returned = tokio::time::timeout_at(deadline, run(store, room, call)).await;
        let event = store.data_mut().leave_room();
        let result = match returned {
            Ok(Ok(returned)) => Ok(returned),
            Ok(Err(error)) => Err(Failure::Trapped(format!("{error:?}"))),
            Err(_) => Err(Failure::Wall(self.plugin.limits.wall)),
        };
        (event, result)
    }

    fn report_room(&self, failure: &Failure, room: &str) {
        self.counters.failures.fetch_add(1, Relaxed);
        self.counters.reasons.count(failure);
        tracing::error!(
            plugin = %self.plugin.name,
            digest = self.digest.get(..12).unwrap_or_default(),
            room,
            "{failure}"
        );
    }
}

async fn run(store: &mut Store<State>, room: &RoomOnly, call: Call) -> wasmtime::Result<Returned> {
    let exports = room.guesthouse_rooms_room();
    let done = |result: Result<(), String>| match result {
        Ok(()) => Returned::Done,
        Err(why) => Returned::Refused(why),
    };
    Ok(match call {
        Call::Start => done(exports.call_on_start(store).await?),
        Call::Connect(id, request) => match exports.call_on_connect(store, id, &request).await? {
            Ok(accept) => Returned::Accept(accept),
            Err(response) => Returned::Response(response),
        },
        Call::Message(id, message) => done(exports.call_on_message(store, id, &message).await?),
        Call::Close(connection, info) => {
            done(exports.call_on_close(store, &connection, &info).await?)
        }
        Call::Alarm(info) => done(exports.call_on_alarm(store, info).await?),
        Call::Request(request) => {
            Returned::Response(exports.call_on_request(store, &request).await?)
        }
    })
}
