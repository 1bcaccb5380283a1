//! The mailbox of a room.
//!
//! Owns what can happen to a room, and the bound on how much of it may wait. Messages wait for a place in the
//! order in which they asked; connection attempts and requests are refused when there is none. The end of a
//! connection always has a place: there are no more of them than connections.

use super::event::{Opened, RoomFailure};
use super::socket::{Frame, Socket};
use super::usage::Rate;
use crate::auth::Caller;
use crate::storage::rooms::RoomKey;
use guesthouse_bindings::rooms::types::{CloseInfo, ConnId, Request, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// A place in a mailbox.
pub(super) type Permit = OwnedSemaphorePermit;

/// What happens to a room.
pub enum Input {
    /// A client wants a connection.
    Connect {
        /// What it sent.
        request: Box<Request>,
        /// The connection in the making.
        socket: Arc<Socket>,
        /// Subprotocols that the client offered.
        offered: Vec<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<Opened>,
        /// Its place.
        permit: Permit,
    },
    /// A client sent a message.
    Message {
        /// Which client.
        from: Arc<Socket>,
        /// The message.
        frame: Frame,
        /// Its place.
        permit: Permit,
    },
    /// A connection has ended.
    Closed {
        /// Which.
        id: ConnId,
        /// How.
        info: CloseInfo,
    },
    /// A plain request.
    Request {
        /// What was sent.
        asked: Box<Asked>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Response, RoomFailure>>,
        /// Its place.
        permit: Permit,
    },
    /// The alarm that was due at this time.
    Alarm {
        /// Milliseconds since 1970.
        due: u64,
    },
    /// Drop the instance: its memory is needed, or its code has been replaced.
    Sleep,
    /// The house closes.
    Shutdown,
    /// The operator wants something.
    Order(Order),
}

/// A plain request, and what belongs to it.
pub struct Asked {
    /// What was sent. Its principal is filled in when it is delivered.
    pub request: Request,
    /// Who sent it.
    pub caller: Option<Arc<Caller>>,
    /// Rooms whose events wait for the answer, the first that called first.
    pub waiting: Arc<[RoomKey]>,
}

/// What an operator can want of a room.
pub enum Order {
    /// To close all connections.
    Close {
        /// With this code.
        code: u16,
        /// And this reason.
        reason: String,
        /// How many there were.
        done: oneshot::Sender<usize>,
    },
    /// To close all connections and delete everything that the room keeps.
    Delete {
        /// Whether it is gone.
        done: oneshot::Sender<Result<(), RoomFailure>>,
    },
}

/// The way to a room that is in memory.
pub struct Mailbox {
    /// Which room.
    pub key: RoomKey,
    /// What can be seen of it from outside.
    pub view: View,
    sender: mpsc::UnboundedSender<Input>,
    places: Arc<Semaphore>,
}

/// Numbers that the room keeps up to date for whoever looks.
#[derive(Debug, Default)]
pub struct View {
    /// The address of the version whose instance is awake; 0: asleep.
    pub version: AtomicUsize,
    /// Open connections.
    pub sockets: AtomicUsize,
    /// Events so far.
    pub events: AtomicU64,
    /// And in a second, of late.
    pub rate: Rate,
    /// When the last one was, in milliseconds since 1970.
    pub last_event: AtomicU64,
    /// Whether it is at work just now.
    pub busy: AtomicBool,
}

impl Mailbox {
    /// A mailbox with so many places.
    pub fn new(key: RoomKey, places: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(places));
        (Arc::new(Self { key, view: View::default(), sender, places }), receiver)
    }

    /// Puts in what has its place. False: the room has left memory meanwhile.
    pub fn send(&self, input: Input) -> bool {
        self.sender.send(input).is_ok()
    }

    /// The same, and gives the input back.
    ///
    /// # Errors
    /// The input, when the room has left memory.
    pub fn try_send(&self, input: Input) -> Result<(), Input> {
        self.sender.send(input).map_err(|error| error.0)
    }

    /// A place, if there is one.
    pub fn try_reserve(&self) -> Option<Permit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// A place, in turn.
    pub async fn reserve(self: Arc<Self>) -> Option<Permit> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// Whether it has an instance.
    pub fn is_awake(&self) -> bool {
        self.view.version.load(Relaxed) != 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn mailbox(places: usize) -> (Arc<Mailbox>, mpsc::UnboundedReceiver<Input>) {
        Mailbox::new(RoomKey { plugin: "p".into(), name: "r".into() }, places)
    }

    /// What may happen to the places of a mailbox.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Somebody wants a place at once, or not at all.
        Try,
        /// Somebody waits for one.
        Wait,
        /// The room has dealt with an event.
        Done,
    }

    proptest! {
        #[test]
        fn there_are_never_more_events_than_places_and_who_waits_comes_in_turn(
            places in 1..6_usize,
            steps in prop::collection::vec(
                prop_oneof![Just(Step::Try), Just(Step::Wait), Just(Step::Done)], 0..80),
        ) {
            let (mailbox, _inbox) = mailbox(places);
            let mut taken: VecDeque<Permit> = VecDeque::new();
            let mut waiting = VecDeque::new();
            for step in steps {
                match step {
                    Step::Try => {
                        let permit = mailbox.try_reserve();
                        // Nobody overtakes those who wait.
                        let free = taken.len() < places && waiting.is_empty();
                        prop_assert_eq!(permit.is_some(), free);
                        taken.extend(permit);
                    }
                    Step::Wait => waiting.push_back(Box::pin(mailbox.clone().reserve())),
                    Step::Done => drop(taken.pop_front()),
                }
                // All of them look, as they do when they are woken; only the first ones get in.
                let mut after = VecDeque::new();
                for mut one in waiting.drain(..) {
                    match (&mut one).now_or_never() {
                        Some(permit) => {
                            prop_assert!(after.is_empty(), "somebody was overtaken");
                            taken.extend(permit);
                        }
                        None => after.push_back(one),
                    }
                }
                waiting = after;
                prop_assert!(taken.len() <= places);
                prop_assert!(waiting.is_empty() || taken.len() == places);
            }
        }
    }

    #[test]
    fn what_needs_no_place_always_gets_in_until_the_room_has_left_memory() {
        let (mailbox, mut inbox) = mailbox(1);
        let _place = mailbox.try_reserve().unwrap();
        for _ in 0..100 {
            assert!(mailbox.send(Input::Sleep));
        }
        inbox.close();
        assert!(!mailbox.send(Input::Sleep));
        assert!(matches!(mailbox.try_send(Input::Shutdown), Err(Input::Shutdown)));
    }
}
