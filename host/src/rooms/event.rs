//! One event of a room: a transaction.
//!
//! Owns everything that an export does until it has ended well: writes, messages, closes, attachments, the alarm.
//! Dropping an event undoes all of it. What a guest asks for is checked here against the limits; nothing is
//! allowed to grow with what a guest says.
//!
//! | file | owns |
//! |---|---|
//! | `storage` | what it reads and writes |
//! | `commit` | how it becomes true |

mod commit;
mod storage;

pub use commit::Accepting;

use super::Rooms;
use super::gate::{Effect, Pending};
use super::mailbox::Asked;
use super::relay::Rule;
use super::socket::{Frame, Socket};
use super::state::{Connection, Room, open_row};
use crate::auth::Caller;
use crate::config::Rooms as Limits;
use crate::storage::rooms::{Alarm, RoomKey, RoomMeta, RoomWrite};
use bytes::Bytes;
use guesthouse_bindings::rooms::types::{Accept, ConnId, Error, Response};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pairs of one page, and keys that one call deletes.
pub const PAGE_PAIRS: u32 = 1000;
/// Messages and closes that one event may let out, and their bytes.
const EFFECTS: usize = 10_000;
const EFFECT_BYTES: usize = 16 << 20;
/// Bytes of an attachment.
const ATTACHMENT: usize = 16 << 10;
const TAGS: usize = 10;
const TAG: usize = 256;

/// Why a room gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RoomFailure {
    /// Too many events wait.
    #[error("{0} events wait for the room (rooms.mailbox)")]
    Busy(usize),
    /// Too many connections.
    #[error("the room has {0} connections (rooms.sockets)")]
    Full(usize),
    /// Too many connections in all.
    #[error("the rooms of the plugin have {0} connections (rooms.plugin_sockets)")]
    AllFull(usize),
    /// The guest failed; the operator's log has been told.
    #[error(transparent)]
    Guest(#[from] crate::engine::Failure),
    /// The guest said no to being woken, or answered nonsense; for the log.
    #[error("{0}")]
    Refused(String),
    /// It failed again and again, and is left alone for a while.
    #[error(
        "the room failed again and again, and rests for {0:?} (breaker.failures, breaker.backoff)"
    )]
    Resting(std::time::Duration),
    /// The storage failed.
    #[error("the room's storage failed")]
    Storage,
    /// The room was written by a version with a newer schema.
    #[error(
        "the room was written under schema {stored}, and this version has {version} (rooms.schema)"
    )]
    Schema {
        /// The number in the storage.
        stored: u32,
        /// The number of the version.
        version: u32,
    },
    /// No instance was to be had.
    #[error("no instance is free for the room (engine.max_instances)")]
    NoInstance,
    /// There is no such plugin, or it has no rooms.
    #[error("there are no such rooms")]
    Gone,
    /// The house closes.
    #[error("the house closes")]
    Closing,
}

/// The answer to a connection attempt.
#[derive(Debug)]
pub enum Opened {
    /// 101.
    Accepted {
        /// The connection.
        socket: Arc<Socket>,
        /// One of those that the client offered.
        subprotocol: Option<String>,
    },
    /// The room says no.
    Refused(Response),
    /// The host says no.
    Failed(RoomFailure),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An event in the making.
pub struct Event {
    /// The room; goes back to its actor when the event has ended.
    pub room: Box<Room>,
    /// The limits of the version that runs.
    pub limits: Limits,
    /// Milliseconds since 1970.
    pub now: u64,
    /// Who caused it, when a client did.
    pub caller: Option<Arc<Caller>>,
    /// Rooms whose events wait for this one.
    pub waiting: Arc<[RoomKey]>,
    /// The connection that `on-close` is about, and what it was relayed last.
    pub closing: Option<(ConnId, Option<Frame>)>,
    /// The connection that `on-connect` is about.
    pub connecting: Option<Arc<Socket>>,
    /// What the meta row becomes.
    pub meta: RoomMeta,
    /// The alarm that rings, in `on-alarm`, until the room has set or cleared it anew.
    pub ringing: Option<Alarm>,
    early: mpsc::UnboundedSender<Pending>,
    writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    write_bytes: usize,
    rows: Vec<RoomWrite>,
    attachments: HashMap<ConnId, Bytes>,
    effects: Vec<Effect>,
    effect_bytes: usize,
    auto_response: Option<Option<(String, String)>>,
    relay: Option<Vec<Vec<u8>>>,
    rules: HashMap<ConnId, Option<Rule>>,
}

type Answer<T> = Result<T, Error>;

impl Event {
    /// An event that has done nothing yet.
    pub fn new(
        room: Box<Room>,
        limits: Limits,
        now: u64,
        early: mpsc::UnboundedSender<Pending>,
    ) -> Box<Self> {
        let meta = room.meta;
        Box::new(Self {
            room,
            limits,
            now,
            caller: None,
            waiting: Arc::default(),
            closing: None,
            connecting: None,
            meta,
            ringing: None,
            early,
            writes: BTreeMap::new(),
            write_bytes: 0,
            rows: Vec::new(),
            attachments: HashMap::new(),
            effects: Vec::new(),
            effect_bytes: 0,
            auto_response: None,
            relay: None,
            rules: HashMap::new(),
        })
    }

    /// The room, without anything that the event did since it was last submitted.
    pub fn into_room(self: Box<Self>) -> Box<Room> {
        self.room
    }

    /// Adds a write to the table of connections.
    pub fn write_row(&mut self, row: RoomWrite) {
        self.rows.push(row);
    }

    /// Adds the last thing that leaves: an answer.
    pub fn answer(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The room takes a connection in.
    ///
    /// # Errors
    /// What the room answered is over a limit or makes no sense; for the log.
    pub fn accept(&mut self, socket: &Arc<Socket>, accept: Accept) -> Result<(), String> {
        if accept.tags.len() > TAGS || accept.tags.iter().any(|tag| tag.len() > TAG) {
            return Err(format!("a connection has at most {TAGS} tags of at most {TAG} bytes"));
        }
        if accept.attachment.len() > ATTACHMENT {
            return Err(format!("an attachment has at most {ATTACHMENT} bytes"));
        }
        socket.set_tags(accept.tags);
        // `set-attachment` during `on-connect` is about this connection too.
        let attachment =
            self.attachments.remove(&socket.id).unwrap_or_else(|| accept.attachment.into());
        self.rows.push(open_row(socket, &attachment));
        let seat = self.room.usage.seat();
        let socket = socket.clone();
        let rule = self.rules.remove(&socket.id).flatten();
        self.room.enter(Connection { socket, attachment, last_relayed: None, rule, seat });
        Ok(())
    }

    /// `alarms.set` and `alarms.clear`
    pub fn set_alarm(&mut self, at: Option<u64>) {
        self.ringing = None;
        self.meta.alarm = at.map(|at| Alarm { scheduled_at: at, due: Some(at.max(1)), retries: 0 });
    }

    fn let_out(&mut self, effect: Effect, bytes: usize) -> Answer<()> {
        let total = self.effect_bytes.saturating_add(bytes);
        if self.effects.len() >= EFFECTS || total > EFFECT_BYTES {
            return Err(Error::Limit(format!(
                "one event sends at most {EFFECTS} messages and {EFFECT_BYTES} bytes; call \
                 self-room.commit on the way"
            )));
        }
        self.effect_bytes = total;
        self.effects.push(effect);
        Ok(())
    }

    /// The socket of a connection, also of the one that is being made.
    pub fn socket(&self, id: ConnId) -> Answer<Arc<Socket>> {
        self.room
            .connections
            .get(&id)
            .map(|connection| &connection.socket)
            .or(self.connecting.as_ref().filter(|socket| socket.id == id))
            .cloned()
            .ok_or(Error::NotFound)
    }

    /// `connections.send`
    pub fn send(
        &mut self,
        id: ConnId,
        frame: Frame,
        how: guesthouse_bindings::rooms::connections::Delivery,
    ) -> Answer<()> {
        let socket = self.socket(id)?;
        let bytes = frame.len();
        self.let_out(Effect::Send(socket, frame, how), bytes)
    }

    /// `connections.broadcast`
    pub fn broadcast(
        &mut self,
        tags: Vec<String>,
        except: Vec<ConnId>,
        frame: Frame,
        how: guesthouse_bindings::rooms::connections::Delivery,
    ) -> Answer<u32> {
        let to = self.room.everyone();
        let addressed = if tags.is_empty() && except.is_empty() {
            to.len()
        } else {
            to.iter().filter(|s| s.has_any(&tags) && !except.contains(&s.id)).count()
        };
        let bytes = frame.len();
        self.let_out(Effect::Broadcast { to, tags, except, frame, how }, bytes)?;
        Ok(u32::try_from(addressed).unwrap_or(u32::MAX))
    }

    /// `peers.post`
    pub fn post(&mut self, rooms: Arc<Rooms>, to: RoomKey, asked: Asked) -> Answer<()> {
        let bytes = asked.request.body.len();
        self.let_out(Effect::Post(rooms, to, Box::new(asked)), bytes)
    }

    /// `connections.close`
    pub fn close(&mut self, id: ConnId, code: u16, reason: String) -> Answer<()> {
        if code != 1000 && !(3000..=4999).contains(&code) {
            return Err(Error::Invalid(format!(
                "{code} is not a code that a room may close with: 1000, or 3000 to 4999"
            )));
        }
        if reason.len() > 123 {
            return Err(Error::Invalid("a reason has at most 123 bytes".to_owned()));
        }
        let socket = self.socket(id)?;
        self.let_out(Effect::Close(socket, code, reason), 0)
    }

    /// `connections.set-attachment`
    pub fn attach(&mut self, id: ConnId, attachment: Vec<u8>) -> Answer<()> {
        if attachment.len() > ATTACHMENT {
            return Err(Error::Limit(format!("an attachment has at most {ATTACHMENT} bytes")));
        }
        self.socket(id)?;
        self.attachments.insert(id, attachment.into());
        Ok(())
    }

    /// What is attached, as this event has left it.
    pub fn attachment(&self, id: ConnId) -> Option<&Bytes> {
        self.attachments.get(&id)
    }

    /// `connections.set-auto-response`
    pub fn set_auto_response(&mut self, pair: Option<(String, String)>) -> Answer<()> {
        if pair.as_ref().is_some_and(|(request, text)| request.len() > 2048 || text.len() > 2048) {
            return Err(Error::Limit("texts of an auto-response have at most 2 KiB".to_owned()));
        }
        self.auto_response = Some(pair);
        Ok(())
    }

    /// `connections.set-relay`
    pub fn set_relay(&mut self, prefixes: Vec<Vec<u8>>) -> Answer<()> {
        if prefixes.len() > 4 || prefixes.iter().any(|p| p.is_empty() || p.len() > 16) {
            return Err(Error::Limit("there are at most 4 prefixes of 1 to 16 bytes".to_owned()));
        }
        self.relay = Some(prefixes);
        Ok(())
    }

    /// `connections.set-relay-rule`
    pub fn set_rule(&mut self, id: ConnId, rule: Option<Rule>) -> Answer<()> {
        if rule.as_ref().is_some_and(|rule| !rule.is_small()) {
            return Err(Error::Limit(
                "a rule has 1 to 8 pieces, at most 64 literal bytes and at most 10 tags".to_owned(),
            ));
        }
        self.socket(id)?;
        self.rules.insert(id, rule);
        Ok(())
    }

    /// `connections.last-relayed`
    pub fn last_relayed(&self, id: ConnId) -> Option<&Frame> {
        match &self.closing {
            Some((closing, frame)) if *closing == id => frame.as_ref(),
            _ => self.room.connections.get(&id).and_then(|c| c.last_relayed.as_ref()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
