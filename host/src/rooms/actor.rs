//! The task of one room.
//!
//! Owns the order of things: one event at a time, its effects handed to the gate, its failure undone. It drops
//! the instance when the room rests; connections stay through all of it. The danger that shaped it: two pieces
//! of code that both believe to be the room.
//!
//! | file | owns |
//! |---|---|
//! | `events` | what each kind of event means |
//! | `guest` | the room's one instance |

mod events;
mod guest;

use super::event::Event;
use super::gate::{Effect, Gate, Pending};
use super::mailbox::{Asked, Input, Mailbox};
use super::state::Room;
use super::{Rooms, now};
use crate::config;
use crate::engine::{Breaker, Call, Returned, RoomInstance};
use crate::storage::rooms::CommitError;
use guesthouse_bindings::rooms::types::{CloseInfo, Connection as Seen};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events whose commits may be on their way at a time.
const PIPELINE: usize = 64;

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
    /// Before, the plugin has had all the events that it may have.
    ready_at: Instant,
    /// Of the version that it belongs to.
    breaker: Option<(u64, Arc<Breaker>)>,
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
        let limits = rooms.limits(&mailbox.key).unwrap_or_default();
        let mut actor = Self {
            rooms,
            mailbox,
            inbox,
            room: Some(Box::new(room)),
            gate,
            early,
            instance: None,
            limits,
            last_event: Instant::now(),
            slow_until: None,
            ready_at: Instant::now(),
            breaker: None,
            closing: false,
        };
        // What a crash has left open is closed before anything new happens.
        for connection in left_open {
            let info = CloseInfo { code: 1006, reason: String::new(), was_clean: false };
            if let Err(over) = actor.closed(connection, None, None, info).await {
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
        let ready = Instant::now() >= self.ready_at;
        let rest_at = self.last_event + self.limits.idle;
        tokio::select! {
            biased;
            settled = self.gate.settle(), if !self.gate.is_empty() => match settled {
                Ok(()) => Ok(()),
                Err(error) => self.failed(error).await,
            },
            input = self.inbox.recv(), if !full && ready => match input {
                Some(input) => self.take(input).await,
                None => Err(Over::Gone),
            },
            () = tokio::time::sleep_until(self.ready_at), if !ready => Ok(()),
            () = tokio::time::sleep_until(rest_at), if ready && self.gate.is_empty() && self.may_rest() => {
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
                    Some(connection) => {
                        let caller = connection.socket.caller.clone();
                        let last = connection.last_relayed.clone();
                        self.closed(connection.seen(), caller, last, info).await
                    }
                    None => Ok(()),
                }
            }
            Input::Request { asked, reply, permit } => {
                // Whoever does not wait any more is not served.
                if reply.is_closed() {
                    return Ok(());
                }
                let Asked { request, caller, waiting } = *asked;
                let prepare = |event: &mut Event| {
                    event.caller = caller;
                    event.waiting = waiting;
                };
                let result = self.call(Call::Request(request), prepare).await?;
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
            fresh.usage.change(&old.meta, &fresh.meta);
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
}

/// Reads a room until the storage gives it.
async fn load(rooms: &Arc<Rooms>, mailbox: &Arc<Mailbox>) -> (Room, Vec<Seen>) {
    loop {
        let key = mailbox.key.clone();
        let usage = rooms.usages.of(&key.plugin);
        let (store, alarms) = (rooms.store.clone(), rooms.alarms.clone());
        match Room::load(key, rooms.epoch, store, alarms, usage).await {
            Ok(loaded) => return loaded,
            Err(error) => {
                tracing::error!(room = %mailbox.key, "the room can't be read: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
