//! The task of one room.
//!
//! Owns the order of things: one event at a time, each run in the room's one instance, its effects handed to
//! the gate. It wakes the instance, drops it when it rests, when it failed, and when its code has been replaced;
//! connections stay through all of it. The danger that shaped it: two pieces of code that both believe to be
//! the room.

use super::event::{Event, Opened, RoomFailure};
use super::gate::{Effect, Gate, Pending};
use super::mailbox::{Input, Mailbox, Order};
use super::socket::{Frame, Socket};
use super::state::{Room, closed_row};
use super::{Active, Rooms, now};
use crate::config;
use crate::engine::{Call, Returned, RoomInstance, Version};
use crate::storage::rooms::{Alarm, CommitError};
use guesthouse_bindings::rooms::connections::Delivery;
use guesthouse_bindings::rooms::types::{
    AlarmInfo, CloseInfo, ConnId, Connection as Seen, Message, Request,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events whose commits may be on their way at a time.
const PIPELINE: usize = 64;
/// How long a room whose instance burnt a slice starts its events on the slow lane.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// How often it is looked whether a version, an instance or the storage is to be had.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often an alarm is tried again before it is parked.
const ALARM_RETRIES: u32 = 6;

/// A room at work.
pub(super) struct Actor {
    rooms: Arc<Rooms>,
    mailbox: Arc<Mailbox>,
    inbox: mpsc::UnboundedReceiver<Input>,
    /// None: lost, and to be read anew.
    room: Option<Box<Room>>,
    gate: Gate,
    early: mpsc::UnboundedSender<Pending>,
    instance: Option<RoomInstance>,
    limits: config::Rooms,
    last_event: Instant,
    slow_until: Option<Instant>,
    closing: bool,
}

/// Why an actor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nobody needs the room in memory.
    Idle,
    /// Its plugin is gone, or another process owns it: what still comes is not for this house.
    Gone,
}

type Step = Result<(), Over>;

impl Actor {
    /// Runs until the room leaves memory.
    pub(super) async fn run(
        rooms: Arc<Rooms>,
        mailbox: Arc<Mailbox>,
        inbox: mpsc::UnboundedReceiver<Input>,
    ) {
        let (room, left_open) = load(&rooms, &mailbox).await;
        let (gate, early) = Gate::new(room.settled());
        let mut actor = Self {
            rooms,
            mailbox,
            inbox,
            room: Some(Box::new(room)),
            gate,
            early,
            instance: None,
            limits: config::Rooms::default(),
            last_event: Instant::now(),
            slow_until: None,
            closing: false,
        };
        // What a crash has left open is closed before anything new happens.
        for connection in left_open {
            let info = CloseInfo { code: 1006, reason: String::new(), was_clean: false };
            if let Err(over) = actor.closed(connection, info).await {
                return actor.give_up(over);
            }
        }
        loop {
            if let Err(over) = actor.step().await {
                return actor.give_up(over);
            }
        }
    }

    /// Nobody owns this room's memory any more: what still comes goes to a fresh one.
    fn give_up(mut self, over: Over) {
        self.rest();
        self.gate.clear();
        self.rooms.forget(&self.mailbox);
        self.inbox.close();
        while let Ok(input) = self.inbox.try_recv() {
            if over == Over::Gone {
                continue;
            }
            self.rooms.deliver(&self.mailbox.key, input);
        }
    }

    async fn step(&mut self) -> Step {
        for id in self.gate.take_lost() {
            let info = CloseInfo { code: 1006, reason: String::new(), was_clean: false };
            self.mailbox.send(Input::Closed { id, info });
        }
        let full = self.gate.len() >= PIPELINE;
        let rest_at = self.last_event + self.limits.idle;
        tokio::select! {
            biased;
            settled = self.gate.settle(), if !self.gate.is_empty() => match settled {
                Ok(()) => Ok(()),
                Err(error) => self.failed(error).await,
            },
            input = self.inbox.recv(), if !full => match input {
                Some(input) => self.take(input).await,
                None => Err(Over::Gone),
            },
            () = tokio::time::sleep_until(rest_at), if self.gate.is_empty() && self.may_rest() => {
                self.rest();
                if self.is_empty() { Err(Over::Idle) } else { Ok(()) }
            }
        }
    }

    fn may_rest(&self) -> bool {
        self.instance.is_some() || self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.room.as_ref().is_none_or(|room| room.connections.is_empty())
    }

    /// Drops the instance.
    fn rest(&mut self) {
        self.instance = None;
        self.mailbox.view.version.store(0, Relaxed);
    }

    async fn take(&mut self, input: Input) -> Step {
        match input {
            Input::Connect { request, socket, offered, reply, permit } => {
                let step = self.connect(*request, socket, offered, reply).await;
                drop(permit);
                step
            }
            Input::Message { from, frame, permit } => {
                let step = self.message(&from, frame).await;
                from.handled();
                drop(permit);
                step
            }
            Input::Closed { id, info } => {
                let gone = self.room.as_mut().and_then(|room| room.leave(id));
                self.count_sockets();
                match gone {
                    Some(connection) => self.closed(connection.seen(), info).await,
                    None => Ok(()),
                }
            }
            Input::Request { request, reply, permit } => {
                let result = self.call(Call::Request(*request), |_| ()).await?;
                drop(permit);
                match result {
                    Ok((Returned::Response(response), event)) => {
                        self.conclude(event, Some(Effect::Answer(reply, Ok(response)))).await
                    }
                    Ok(_) => Ok(()),
                    Err(failure) => {
                        self.gate_only(Effect::Answer(reply, Err(failure)));
                        Ok(())
                    }
                }
            }
            Input::Alarm { due } => {
                let step = self.alarm(due).await;
                self.rooms.alarms.done(&self.mailbox.key, due);
                step
            }
            Input::Sleep => {
                self.rest();
                Ok(())
            }
            Input::Shutdown => {
                self.closing = true;
                self.close_all(1012, "the house closes");
                if self.is_empty() { self.last_words().await } else { Ok(()) }
            }
            Input::Order(order) => self.order(order).await,
        }
    }

    /// Lets something out behind everything that is on its way.
    fn gate_only(&mut self, effect: Effect) {
        let number = self.room.as_ref().map_or(0, |room| room.last_number());
        self.gate.push(Pending { number, durable: None, effects: vec![effect] });
    }

    fn close_all(&mut self, code: u16, reason: &str) -> usize {
        let Some(room) = &self.room else { return 0 };
        for connection in room.connections.values() {
            connection.socket.close(code, reason);
        }
        room.connections.len()
    }

    fn count_sockets(&self) {
        let sockets = self.room.as_ref().map_or(0, |room| room.connections.len());
        self.mailbox.view.sockets.store(sockets, Relaxed);
    }

    async fn connect(
        &mut self,
        request: Request,
        socket: Arc<Socket>,
        offered: Vec<String>,
        reply: tokio::sync::oneshot::Sender<Opened>,
    ) -> Step {
        if self.closing {
            _ = reply.send(Opened::Failed(RoomFailure::Closing));
            return Ok(());
        }
        let open = self.room.as_ref().map_or(0, |room| room.connections.len());
        if open >= self.limits.sockets {
            self.gate_only(Effect::Open(reply, Opened::Failed(RoomFailure::Full(open))));
            return Ok(());
        }
        let connecting = socket.clone();
        let call = Call::Connect(socket.id, request);
        let result = self.call(call, |event| event.connecting = Some(connecting)).await?;
        let opened = match result {
            Ok((Returned::Accept(accept), mut event)) => {
                let subprotocol = accept.subprotocol.clone();
                let wrong = match &subprotocol {
                    Some(chosen) if !offered.contains(chosen) => Err(format!(
                        "the room chose the subprotocol {chosen:?}, which was not offered"
                    )),
                    _ => event.accept(&socket, accept),
                };
                match wrong {
                    Ok(()) => {
                        let opened = Opened::Accepted { socket, subprotocol };
                        let step = self.conclude(event, Some(Effect::Open(reply, opened))).await;
                        self.count_sockets();
                        return step;
                    }
                    Err(why) => {
                        tracing::error!(room = %self.mailbox.key, "on-connect: {why}");
                        self.room = Some(event.into_room());
                        Opened::Failed(RoomFailure::Refused(why))
                    }
                }
            }
            Ok((Returned::Response(response), event)) => {
                self.room = Some(event.into_room());
                Opened::Refused(response)
            }
            Ok((Returned::Done | Returned::Refused(_), event)) => {
                self.room = Some(event.into_room());
                Opened::Failed(RoomFailure::Refused("on-connect gave no answer".to_owned()))
            }
            Err(failure) => Opened::Failed(failure),
        };
        self.gate_only(Effect::Open(reply, opened));
        Ok(())
    }

    async fn message(&mut self, from: &Arc<Socket>, frame: Frame) -> Step {
        let Some(room) = &mut self.room else { return Ok(()) };
        if !room.connections.contains_key(&from.id) {
            return Ok(());
        }
        if let (Some((request, response)), Frame::Text(text)) = (&room.auto_response, &frame)
            && text.as_str() == request
        {
            from.push(Frame::text(response.as_str()), Delivery::Reliable);
            return Ok(());
        }
        let bytes: &[u8] = match &frame {
            Frame::Text(text) => text.as_bytes(),
            Frame::Binary(bytes) => bytes,
            _ => return Ok(()),
        };
        if room.relay.iter().any(|prefix| bytes.starts_with(prefix)) {
            for socket in room.everyone().iter() {
                socket.push(frame.clone(), Delivery::Droppable);
            }
            if let Some(connection) = room.connections.get_mut(&from.id) {
                connection.last_relayed = Some(frame);
            }
            return Ok(());
        }
        let message = match frame {
            Frame::Text(text) => Message::Text(text.as_str().to_owned()),
            Frame::Binary(bytes) => Message::Binary(bytes.to_vec()),
            _ => return Ok(()),
        };
        match self.call(Call::Message(from.id, message), |_| ()).await? {
            Ok((_, event)) => self.conclude(event, None).await,
            Err(failure) => {
                let (code, reason) = match failure {
                    RoomFailure::NoInstance => (1013, "the house has too much to do"),
                    _ => (1011, "the room could not deal with a message"),
                };
                self.gate_only(Effect::Close(from.clone(), code, reason.to_owned()));
                Ok(())
            }
        }
    }

    /// `on-close`, whose effects are true exactly once: the row goes with them.
    async fn closed(&mut self, connection: Seen, info: CloseInfo) -> Step {
        let row = closed_row(connection.id);
        let id: ConnId = connection.id;
        let call = Call::Close(connection, info);
        let event = match self.call(call, |event| event.write_row(closed_row(id))).await? {
            Ok((_, event)) => event,
            Err(_) => match self.host_event() {
                // The room had its chance; the row must go all the same.
                Some(mut event) => {
                    event.write_row(row);
                    event
                }
                None => return Ok(()),
            },
        };
        self.conclude(event, None).await?;
        if self.closing && self.is_empty() && self.inbox.is_empty() {
            return self.last_words().await;
        }
        Ok(())
    }

    /// The house closes, and nobody is here any more: what is on its way leaves, and then the room.
    async fn last_words(&mut self) -> Step {
        self.settle_all().await?;
        Err(Over::Idle)
    }

    async fn settle_all(&mut self) -> Step {
        while !self.gate.is_empty() {
            if let Err(error) = self.gate.settle().await {
                return self.failed(error).await;
            }
        }
        Ok(())
    }

    async fn alarm(&mut self, due: u64) -> Step {
        let Some(alarm) = self.room.as_ref().and_then(|room| room.meta.alarm) else {
            return Ok(());
        };
        if alarm.due != Some(due) {
            return Ok(());
        }
        let info = AlarmInfo { scheduled_at: alarm.scheduled_at, retry_count: alarm.retries };
        match self.call(Call::Alarm(info), |event| event.meta.alarm = None).await? {
            Ok((_, event)) => self.conclude(event, None).await,
            Err(_) => {
                let Some(mut event) = self.host_event() else { return Ok(()) };
                let retries = alarm.retries.saturating_add(1);
                let next = (retries <= ALARM_RETRIES)
                    .then(|| now().saturating_add(1000 << retries.min(ALARM_RETRIES)));
                if next.is_none() {
                    tracing::error!(
                        room = %self.mailbox.key,
                        "the alarm failed {retries} times and is parked until the room sets it again"
                    );
                }
                event.meta.alarm = Some(Alarm { due: next, retries, ..alarm });
                self.conclude(event, None).await
            }
        }
    }

    async fn order(&mut self, order: Order) -> Step {
        match order {
            Order::Close { code, reason, done } => {
                _ = done.send(self.close_all(code, &reason));
                Ok(())
            }
            Order::Delete { done } => {
                self.close_all(1001, "the room was deleted");
                self.rest();
                loop {
                    let Some(mut event) = self.host_event() else { return Ok(()) };
                    event.meta.alarm = None;
                    let deleted = event.delete_range(&[], None).await;
                    self.conclude(event, None).await?;
                    match deleted {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(_) => {
                            _ = done.send(Err(RoomFailure::Storage));
                            return Ok(());
                        }
                    }
                }
                self.settle_all().await?;
                _ = done.send(Ok(()));
                Ok(())
            }
        }
    }

    /// An event of the host's own: no guest runs.
    fn host_event(&mut self) -> Option<Box<Event>> {
        let room = self.room.take()?;
        Some(Event::new(room, self.limits.clone(), now(), self.early.clone()))
    }

    /// Makes an event true.
    async fn conclude(&mut self, mut event: Box<Event>, answer: Option<Effect>) -> Step {
        if let Some(answer) = answer {
            event.answer(answer);
        }
        match event.submit().await {
            Ok(pending) => {
                self.room = Some(event.into_room());
                self.gate.push(pending);
                Ok(())
            }
            Err(error) => {
                self.room = Some(event.into_room());
                self.failed(error).await
            }
        }
    }

    /// A commit did not happen: nothing that rests on it may be seen, and memory is not to be trusted.
    async fn failed(&mut self, error: CommitError) -> Step {
        tracing::error!(room = %self.mailbox.key, "a commit failed: {error}");
        self.rest();
        self.gate.clear();
        if error == CommitError::Fenced {
            self.close_all(1012, "the room has moved");
            return Err(Over::Gone);
        }
        self.close_all(1011, "the room could not keep what was written");
        let (mut fresh, _) = load(&self.rooms, &self.mailbox).await;
        if let Some(old) = self.room.take() {
            for (_, connection) in old.connections {
                // Those whose 101 never left do not exist.
                if connection.socket.is_open() {
                    fresh.enter(connection);
                }
            }
        }
        let (gate, early) = Gate::new(fresh.settled());
        self.gate = gate;
        self.early = early;
        self.room = Some(Box::new(fresh));
        self.count_sockets();
        Ok(())
    }

    /// The version that is active now. Waits while it is being compiled.
    async fn version(&mut self) -> Result<Arc<Version>, Over> {
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
    async fn call(
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
        view.busy.store(false, Relaxed);
        result
    }

    async fn call_awake(
        &mut self,
        call: Call,
        prepare: impl FnOnce(&mut Event),
    ) -> Result<Result<(Returned, Box<Event>), RoomFailure>, Over> {
        let version = self.version().await?;
        if self.instance.as_ref().is_some_and(|i| !Arc::ptr_eq(i.version(), &version)) {
            self.rest();
        }
        if self.instance.is_none()
            && let Err(failure) = self.wake(&version).await?
        {
            return Ok(Err(failure));
        }
        let Some(room) = self.room.take() else { return Err(Over::Gone) };
        let mut event = Event::new(room, self.limits.clone(), now(), self.early.clone());
        prepare(&mut event);
        self.run_guest(&version, call, event).await
    }

    /// Makes an instance and lets it start.
    async fn wake(&mut self, version: &Arc<Version>) -> Result<Result<(), RoomFailure>, Over> {
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
    async fn run_guest(
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

/// Reads a room until the storage gives it.
async fn load(rooms: &Arc<Rooms>, mailbox: &Arc<Mailbox>) -> (Room, Vec<Seen>) {
    loop {
        let key = mailbox.key.clone();
        match Room::load(key, rooms.epoch, rooms.store.clone(), rooms.alarms.clone()).await {
            Ok(loaded) => return loaded,
            Err(error) => {
                tracing::error!(room = %mailbox.key, "the room can't be read: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
