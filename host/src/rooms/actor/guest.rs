//! The one instance of a room.
//!
//! Owns which code it runs, its start, and each call into it. While a call is at work the gate goes on letting
//! out what was before it. The danger that shaped it: an instance that is used again after it failed.

use super::{Actor, Over};
use crate::engine::{Breaker, Call, Change, Returned, Ticket, Version};
use crate::rooms::event::{Event, RoomFailure};
use crate::rooms::{Active, now};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// How long a room whose instance burnt a slice starts its events on the slow lane.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// How often it is looked whether a version, an instance or the storage is to be had.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Actor {
    /// The version that is active now. Waits while it is being compiled.
    pub(super) async fn version(&mut self) -> Result<Arc<Version>, Over> {
        loop {
            match self.rooms.versions.active(&self.mailbox.key) {
                Active::Ready(version) => return Ok(version),
                Active::Gone => {
                    self.close_all(1001, "there is no such room any more");
                    return Err(Over::Gone);
                }
                Active::Later => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Runs one export in the room's instance, waking it first. The event is given back when it has ended
    /// well; otherwise it is as if it had never been.
    pub(super) async fn call(
        &mut self,
        call: Call,
        prepare: impl FnOnce(&mut Event),
    ) -> Result<Result<(Returned, Box<Event>), RoomFailure>, Over> {
        self.mailbox.view.busy.store(true, Relaxed);
        let result = self.call_awake(call, prepare).await;
        self.last_event = Instant::now();
        let view = &self.mailbox.view;
        view.last_event.store(now(), Relaxed);
        view.events.fetch_add(1, Relaxed);
        view.rate.count();
        view.busy.store(false, Relaxed);
        result
    }

    pub(super) async fn call_awake(
        &mut self,
        call: Call,
        prepare: impl FnOnce(&mut Event),
    ) -> Result<Result<(Returned, Box<Event>), RoomFailure>, Over> {
        let version = self.version().await?;
        // The end of a connection and an alarm are not a client's doing, and come but once: alarms have pauses of
        // their own.
        let gated = !matches!(call, Call::Close(..) | Call::Alarm(_));
        let breaker = self.breaker(&version);
        let ticket = match gated.then(|| breaker.enter()).transpose() {
            Ok(ticket) => ticket,
            Err(pause) => return Ok(Err(RoomFailure::Resting(pause))),
        };
        let result = self.call_in(&version, call, prepare).await?;
        if let Some(ticket) = ticket {
            self.judge(&breaker, ticket, &result);
        }
        Ok(result)
    }

    /// The breaker of this room: what one room does to itself closes no other.
    fn breaker(&mut self, version: &Version) -> Arc<Breaker> {
        let serial = version.serial();
        match &self.breaker {
            Some((of, breaker)) if *of == serial => breaker.clone(),
            _ => {
                // Other code, other luck.
                let breaker = Breaker::new(version.plugin.breaker);
                self.breaker = Some((serial, breaker.clone()));
                breaker
            }
        }
    }

    fn judge<T>(&self, breaker: &Breaker, ticket: Ticket, result: &Result<T, RoomFailure>) {
        let change = match result {
            Ok(_) | Err(RoomFailure::Refused(_)) => breaker.good(ticket),
            Err(RoomFailure::Guest(failure)) if failure.is_own_fault() => breaker.bad(ticket),
            Err(_) => None,
        };
        match change {
            Some(Change::Opened { pause, failures }) => tracing::error!(
                room = %self.mailbox.key,
                "the room failed {failures} times in a row: for {pause:?} it gets no messages, then one is let \
                 through to see whether it works again (breaker.failures, breaker.backoff)"
            ),
            Some(Change::Closed) => {
                tracing::info!(room = %self.mailbox.key, "the room works again")
            }
            None => {}
        }
    }

    async fn call_in(
        &mut self,
        version: &Arc<Version>,
        call: Call,
        prepare: impl FnOnce(&mut Event),
    ) -> Result<Result<(Returned, Box<Event>), RoomFailure>, Over> {
        if self.instance.as_ref().is_some_and(|i| !Arc::ptr_eq(i.version(), version)) {
            self.rest();
        }
        if self.instance.is_none()
            && let Err(failure) = self.wake(version).await?
        {
            return Ok(Err(failure));
        }
        let Some(room) = self.room.take() else { return Err(Over::Gone) };
        let began = Instant::now();
        self.ready_at = began + room.usage.share(self.limits.plugin_events, began);
        let mut event = Event::new(room, self.limits.clone(), now(), self.early.clone());
        prepare(&mut event);
        self.run_guest(version, call, event).await
    }

    /// Makes an instance and lets it start.
    pub(super) async fn wake(
        &mut self,
        version: &Arc<Version>,
    ) -> Result<Result<(), RoomFailure>, Over> {
        let Some(limits) = &version.plugin.rooms else { return Err(Over::Gone) };
        self.limits = limits.clone();
        let stored = self.room.as_ref().map_or(0, |room| room.meta.schema);
        if stored > limits.schema {
            let failure = RoomFailure::Schema { stored, version: limits.schema };
            tracing::error!(room = %self.mailbox.key, "{failure}");
            return Ok(Err(failure));
        }
        let deadline = Instant::now() + version.plugin.limits.wall;
        let instance = loop {
            match version.room_instance() {
                Some(instance) => break instance,
                None if Instant::now() > deadline => {
                    tracing::warn!(room = %self.mailbox.key, "{}", RoomFailure::NoInstance);
                    return Ok(Err(RoomFailure::NoInstance));
                }
                None => {
                    self.rooms.evict();
                    tokio::time::sleep(LOOK_AGAIN / 10).await;
                }
            }
        };
        self.instance = Some(instance);
        let Some(event) = self.host_event() else { return Err(Over::Gone) };
        match self.run_guest(version, Call::Start, event).await? {
            Ok((_, event)) => {
                self.conclude(event, None).await?;
                let address = Arc::as_ptr(version) as usize;
                self.mailbox.view.version.store(address, Relaxed);
                Ok(Ok(()))
            }
            Err(failure) => {
                self.rest();
                Ok(Err(failure))
            }
        }
    }

    /// One call into the instance, while the gate goes on letting out what was before.
    pub(super) async fn run_guest(
        &mut self,
        version: &Arc<Version>,
        call: Call,
        event: Box<Event>,
    ) -> Result<Result<(Returned, Box<Event>), RoomFailure>, Over> {
        let Some(instance) = self.instance.take() else { return Err(Over::Gone) };
        let slow = self.slow_until.is_some_and(|until| Instant::now() < until);
        let (ran, broken) = {
            let mut run = std::pin::pin!(version.run_room(instance, event, call, slow));
            let mut broken = None;
            loop {
                tokio::select! {
                    biased;
                    ran = &mut run => break (ran, broken),
                    settled = self.gate.settle(), if broken.is_none() => {
                        broken = settled.err();
                        if broken.is_some() {
                            // Whoever waits for a commit of this event must not wait for ever.
                            self.gate.clear();
                        }
                    }
                }
            }
        };
        if ran.moved {
            self.slow_until = Some(Instant::now() + SLOW_FOR);
        }
        self.instance = ran.instance;
        let Some(event) = ran.event else {
            // The run was dropped with the room in it: only at the end of the process.
            return Err(Over::Gone);
        };
        if let Some(error) = broken {
            self.room = Some(event.into_room());
            self.failed(error).await?;
            return Ok(Err(RoomFailure::Storage));
        }
        match ran.result {
            Ok(Returned::Refused(why)) => {
                tracing::warn!(room = %self.mailbox.key, "an event was refused by the room: {why}");
                self.room = Some(event.into_room());
                Ok(Err(RoomFailure::Refused(why)))
            }
            Ok(returned) => Ok(Ok((returned, event))),
            Err(failure) => {
                self.rest();
                self.room = Some(event.into_room());
                Ok(Err(RoomFailure::Guest(failure)))
            }
        }
    }
}
