//! The output gate.
//!
//! Owns what a room's events want to let out, until the writes that it rests on are durable. Whatever order the
//! storage answers in, effects leave in the order of their events. When one commit fails nothing behind it ever
//! leaves: the danger that shaped it is a client that has seen what a crash took back.

use super::Rooms;
use super::alarms::Alarms;
use super::event::{Opened, RoomFailure};
use super::fault;
use super::mailbox::Asked;
use super::socket::{Frame, Socket};
use crate::storage::rooms::{CommitError, Durable, RoomKey};
use guesthouse_bindings::rooms::connections::Delivery;
use guesthouse_bindings::rooms::types::{ConnId, Response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Release};
use tokio::sync::{mpsc, oneshot};

/// Something that leaves the room.
pub enum Effect {
    /// A message to one connection.
    Send(Arc<Socket>, Frame, Delivery),
    /// A message to many.
    Broadcast {
        /// All who were connected when it was sent.
        to: Arc<[Arc<Socket>]>,
        /// Those with one of these tags; none: all.
        tags: Vec<String>,
        /// But not these.
        except: Vec<ConnId>,
        /// The message.
        frame: Frame,
        /// What happens when a queue is full.
        how: Delivery,
    },
    /// The end of a connection.
    Close(Arc<Socket>, u16, String),
    /// The answer to a connection attempt.
    Open(oneshot::Sender<Opened>, Opened),
    /// The answer to a request.
    Answer(oneshot::Sender<Result<Response, RoomFailure>>, Result<Response, RoomFailure>),
    /// A request to another room whose answer nobody waits for.
    Post(Arc<Rooms>, RoomKey, Box<Asked>),
    /// A commit in the middle of an event has come true.
    Committed(oneshot::Sender<()>),
    /// An alarm is set for this time.
    Arm(Arc<Alarms>, u64),
}

/// What an event lets out, and what it waits for.
pub struct Pending {
    /// The number of its commit.
    pub number: u64,
    /// None: the event wrote nothing, and leaves when those before it have left.
    pub durable: Option<Durable>,
    /// What leaves, in order.
    pub effects: Vec<Effect>,
}

/// The gate of one room.
pub(super) struct Gate {
    queue: VecDeque<Pending>,
    /// Commits in the middle of an event come this way.
    early: mpsc::UnboundedReceiver<Pending>,
    settled: Arc<AtomicU64>,
    /// Connections whose answer nobody waited for any more.
    lost: Vec<ConnId>,
}

impl Gate {
    /// A gate, and the way by which events that are still running reach it.
    pub(super) fn new(settled: Arc<AtomicU64>) -> (Self, mpsc::UnboundedSender<Pending>) {
        let (sender, early) = mpsc::unbounded_channel();
        (Self { queue: VecDeque::new(), early, settled, lost: Vec::new() }, sender)
    }

    /// Events that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes an event's effects; those that may leave do so at once.
    pub(super) fn push(&mut self, pending: Pending) {
        // What came by the other way was before.
        while let Ok(early) = self.early.try_recv() {
            self.queue.push_back(early);
        }
        self.queue.push_back(pending);
        self.release_ready();
    }

    fn release_ready(&mut self) {
        while self.queue.front().is_some_and(|pending| pending.durable.is_none()) {
            if let Some(pending) = self.queue.pop_front() {
                self.release(pending);
            }
        }
    }

    fn release(&mut self, pending: Pending) {
        self.settled.store(pending.number, Release);
        for effect in pending.effects {
            match effect {
                Effect::Send(socket, frame, how) => socket.push(frame, how),
                Effect::Broadcast { to, tags, except, frame, how } => {
                    for socket in to.iter() {
                        if socket.has_any(&tags) && !except.contains(&socket.id) {
                            socket.push(frame.clone(), how);
                        }
                    }
                }
                Effect::Close(socket, code, reason) => socket.close(code, &reason),
                Effect::Arm(alarms, due) => alarms.armed(due),
                Effect::Open(reply, opened) => {
                    if let Opened::Accepted { socket, .. } = &opened {
                        socket.set_open();
                    }
                    if let Err(Opened::Accepted { socket, .. }) = reply.send(opened) {
                        self.lost.push(socket.id);
                    }
                }
                Effect::Answer(reply, answer) => _ = reply.send(answer),
                Effect::Post(rooms, to, asked) => rooms.post(&to, *asked),
                Effect::Committed(done) => _ = done.send(()),
            }
        }
    }

    /// Connections that were accepted for clients who were gone by then.
    pub(super) fn take_lost(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.lost)
    }

    /// Waits until a commit has settled; never, while nothing waits. May be dropped at any point.
    ///
    /// # Errors
    /// A commit failed: nothing behind it may leave.
    pub(super) async fn settle(&mut self) -> Result<(), CommitError> {
        loop {
            if let Some(durable) = self.queue.front_mut().and_then(|front| front.durable.as_mut()) {
                let closed = || CommitError::Unavailable("the storage is closed".to_owned());
                durable.await.unwrap_or_else(|_| Err(closed()))?;
                fault::here(fault::Point::AfterCommit);
                if let Some(front) = self.queue.front_mut() {
                    front.durable = None;
                }
                self.release_ready();
                return Ok(());
            }
            match self.early.recv().await {
                Some(early) => {
                    self.queue.push_back(early);
                    self.release_ready();
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Drops everything that waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        while self.early.try_recv().is_ok() {}
    }
}
