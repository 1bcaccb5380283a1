//! One event of a room: a transaction.
//!
//! Owns everything that an export does until it has ended well: writes, messages, closes, attachments, the alarm.
//! Dropping an event undoes all of it. What a guest asks for is checked here against the limits; nothing is
//! allowed to grow with what a guest says.

use super::gate::{Effect, Pending};
use super::socket::{Frame, Socket};
use super::state::{Connection, Room, open_row};
use crate::config::Rooms as Limits;
use crate::storage::StoreError;
use crate::storage::rooms::{
    Alarm, Commit, CommitError, MetaWrite, RoomMeta, RoomWrite, Scan, Table,
};
use bytes::Bytes;
use guesthouse_bindings::rooms::types::{Accept, ConnId, Error, Response};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Bytes of a key.
const KEY: usize = 1024;
/// Bytes of a value.
const VALUE: usize = 1 << 20;
/// Keys that one transaction writes.
const WRITES: usize = 10_000;
/// Bytes that one transaction writes.
const WRITE_BYTES: usize = 16 << 20;
/// Bytes of one page of a scan.
const PAGE: usize = 1 << 20;
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
    /// The guest failed; the operator's log has been told.
    #[error(transparent)]
    Guest(#[from] crate::engine::Failure),
    /// The guest said no to being woken, or answered nonsense; for the log.
    #[error("{0}")]
    Refused(String),
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
    /// The connection that `on-connect` is about.
    pub connecting: Option<Arc<Socket>>,
    /// What the meta row becomes.
    pub meta: RoomMeta,
    early: mpsc::UnboundedSender<Pending>,
    writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    write_bytes: usize,
    rows: Vec<RoomWrite>,
    attachments: HashMap<ConnId, Bytes>,
    effects: Vec<Effect>,
    effect_bytes: usize,
    auto_response: Option<Option<(String, String)>>,
    relay: Option<Vec<Vec<u8>>>,
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
            connecting: None,
            meta,
            early,
            writes: BTreeMap::new(),
            write_bytes: 0,
            rows: Vec::new(),
            attachments: HashMap::new(),
            effects: Vec::new(),
            effect_bytes: 0,
            auto_response: None,
            relay: None,
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
        self.room.enter(Connection { socket: socket.clone(), attachment, last_relayed: None });
        Ok(())
    }

    async fn look(&self, key: &[u8]) -> Answer<Option<Bytes>> {
        if let Some(value) = self.writes.get(key) {
            return Ok(value.clone());
        }
        if let Some(value) = self.room.unsettled(key) {
            return Ok(value);
        }
        self.room.store.get(&self.room.key, key).resolve().await.map_err(unavailable)
    }

    /// `storage.get`
    pub async fn get(&self, key: &[u8]) -> Answer<Option<Bytes>> {
        check_key(key)?;
        self.look(key).await
    }

    /// `storage.put` and `storage.delete`
    pub async fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Answer<()> {
        check_key(&key)?;
        if let Some(value) = &value
            && value.len() > VALUE
        {
            return Err(Error::Limit(format!(
                "a value has at most {VALUE} bytes, not {}",
                value.len()
            )));
        }
        let before = self.look(&key).await?;
        self.replace(key, before.as_ref().map(Bytes::len), value)
    }

    fn replace(&mut self, key: Vec<u8>, before: Option<usize>, value: Option<Bytes>) -> Answer<()> {
        if before.is_none() && value.is_none() {
            return Ok(());
        }
        let size = |value: usize| (key.len() + value) as u64;
        let mut meta = self.meta;
        if let Some(before) = before {
            meta.bytes = meta.bytes.saturating_sub(size(before));
            meta.keys = meta.keys.saturating_sub(1);
        }
        if let Some(value) = &value {
            meta.bytes = meta.bytes.saturating_add(size(value.len()));
            meta.keys = meta.keys.saturating_add(1);
            let limits = &self.limits;
            if meta.bytes > limits.storage && meta.bytes > self.meta.bytes {
                return Err(Error::Limit(format!(
                    "the room may keep {} bytes (rooms.storage)",
                    limits.storage
                )));
            }
            if meta.keys > limits.keys && meta.keys > self.meta.keys {
                return Err(Error::Limit(format!(
                    "the room may keep {} keys (rooms.keys)",
                    limits.keys
                )));
            }
        }
        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
        let total = self.write_bytes.saturating_add(bytes);
        if total > WRITE_BYTES || (self.writes.len() >= WRITES && !self.writes.contains_key(&key)) {
            return Err(Error::Limit(format!(
                "one transaction writes at most {WRITES} keys and {WRITE_BYTES} bytes; call \
                 self-room.commit on the way"
            )));
        }
        self.write_bytes = total;
        self.meta = meta;
        self.writes.insert(key, value);
        Ok(())
    }

    /// `storage.scan`
    pub async fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        limit: u32,
        reverse: bool,
    ) -> Answer<Vec<(Vec<u8>, Bytes)>> {
        if start.len() > KEY + 1 || end.is_some_and(|end| end.len() > KEY + 1) {
            return Err(Error::Invalid(format!("the bounds of a range have at most {KEY} bytes")));
        }
        let limit = limit.min(PAGE_PAIRS) as usize;
        if limit == 0 || end.is_some_and(|end| end <= start) {
            return Ok(Vec::new());
        }
        // What is being written covers what is in the storage.
        let mut cover: BTreeMap<&[u8], &Option<Bytes>> = BTreeMap::new();
        for (key, value) in self.room.unsettled_within(start, end) {
            cover.insert(key, value);
        }
        let bounds = (
            std::ops::Bound::Included(start),
            end.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
        );
        for (key, value) in self.writes.range::<[u8], _>(bounds) {
            cover.insert(key, value);
        }
        let (mut low, mut high) = (start.to_vec(), end.map(<[u8]>::to_vec));
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let scan = Scan {
                start: low.clone(),
                end: high.clone(),
                limit: limit - found.len(),
                bytes: PAGE - bytes,
                reverse,
            };
            let stored = self.room.store.scan(&self.room.key, Table::Data, scan).resolve().await;
            let stored = stored.map_err(unavailable)?;
            // How far the storage has told everything: beyond, the cover alone would leave out keys.
            let edge = stored.last().map(|(key, _)| key.to_vec());
            let mut page: BTreeMap<Vec<u8>, Bytes> =
                stored.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
            let told = |key: &[u8]| match (&edge, reverse) {
                (None, _) => true,
                (Some(edge), false) => key <= edge.as_slice(),
                (Some(edge), true) => key >= edge.as_slice(),
            };
            let within = |key: &[u8]| {
                key >= low.as_slice() && high.as_ref().is_none_or(|high| key < high.as_slice())
            };
            for (key, value) in cover.iter().filter(|(key, _)| within(key) && told(key)) {
                match value {
                    Some(value) => _ = page.insert(key.to_vec(), value.clone()),
                    None => _ = page.remove(*key),
                }
            }
            let mut take = |(key, value): (Vec<u8>, Bytes)| {
                if found.len() < limit && bytes < PAGE {
                    bytes += key.len() + value.len();
                    found.push((key, value));
                }
            };
            if reverse {
                page.into_iter().rev().for_each(&mut take);
            } else {
                page.into_iter().for_each(&mut take);
            }
            match edge {
                Some(edge) if found.len() < limit && bytes < PAGE => {
                    if reverse {
                        high = Some(edge);
                    } else {
                        low = [&edge[..], b"\0"].concat();
                    }
                }
                _ => return Ok(found),
            }
        }
    }

    /// `storage.delete-range`
    pub async fn delete_range(&mut self, start: &[u8], end: Option<&[u8]>) -> Answer<u32> {
        let found = self.scan(start, end, PAGE_PAIRS, false).await?;
        let mut deleted = 0;
        for (key, value) in found {
            self.replace(key, Some(value.len()), None)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// `alarms.set` and `alarms.clear`
    pub fn set_alarm(&mut self, at: Option<u64>) {
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

    /// Makes it true: the room's memory changes, and the writes get their place in the storage's order. What
    /// comes after is a new transaction.
    ///
    /// # Errors
    /// The storage takes no more commits of this room: its memory can't be trusted any more.
    pub async fn submit(&mut self) -> Result<Pending, CommitError> {
        if let Some(pair) = self.auto_response.take() {
            self.room.auto_response = pair;
        }
        if let Some(prefixes) = self.relay.take() {
            self.room.relay = prefixes;
        }
        for (id, attachment) in std::mem::take(&mut self.attachments) {
            if let Some(connection) = self.room.connections.get_mut(&id) {
                connection.attachment = attachment;
                self.rows.push(open_row(&connection.socket, &connection.attachment));
            }
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.effect_bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        let rows = std::mem::take(&mut self.rows);
        self.write_bytes = 0;
        if !writes.is_empty() {
            self.meta.schema = self.meta.schema.max(self.limits.schema);
        }
        let meta =
            (self.meta != self.room.meta || (!writes.is_empty() && !self.room.exists)).then(|| {
                if self.meta.keys == 0 && self.meta.alarm.is_none() {
                    MetaWrite::Delete
                } else {
                    MetaWrite::Put(self.meta)
                }
            });
        if writes.is_empty() && rows.is_empty() && meta.is_none() {
            return Ok(Pending { number: self.room.note(&writes), durable: None, effects });
        }
        let due = |meta: &RoomMeta| meta.alarm.and_then(|alarm| alarm.due);
        let due_before = due(&self.room.meta);
        if let Some(at) = due(&self.meta)
            && due_before != Some(at)
        {
            effects.push(Effect::Arm(self.room.alarms.clone(), at));
        }
        let number = self.room.note(&writes);
        let data =
            writes.into_iter().map(|(key, value)| RoomWrite { table: Table::Data, key, value });
        let commit = Commit {
            room: self.room.key.clone(),
            epoch: self.room.epoch,
            writes: data.chain(rows).collect(),
            meta,
            due_before,
        };
        if let Some(meta) = meta {
            self.room.exists = matches!(meta, MetaWrite::Put(_));
            self.room.meta = if self.room.exists { self.meta } else { RoomMeta::default() };
            self.meta = self.room.meta;
        }
        super::fault::here(super::fault::Point::BeforeCommit);
        let durable = self.room.store.commit(commit).await?;
        Ok(Pending { number, durable: Some(durable), effects })
    }

    /// `self-room.commit`
    pub async fn commit_now(&mut self) -> Answer<()> {
        let mut pending = self.submit().await.map_err(|error| match error {
            CommitError::Fenced => Error::Fenced,
            CommitError::Unavailable(text) => {
                tracing::error!("a commit of room {} failed: {text}", self.room.key);
                Error::Unavailable
            }
        })?;
        let (done, committed) = oneshot::channel();
        pending.effects.push(Effect::Committed(done));
        let gone = |_| Error::Unavailable;
        self.early.send(pending).map_err(|_| Error::Unavailable)?;
        committed.await.map_err(gone)
    }
}

fn check_key(key: &[u8]) -> Answer<()> {
    match key.len() {
        0 => Err(Error::Invalid("a key can't be empty".to_owned())),
        1..=KEY => Ok(()),
        length => Err(Error::Limit(format!("a key has at most {KEY} bytes, not {length}"))),
    }
}

fn unavailable(error: StoreError) -> Error {
    tracing::error!("the storage of a room failed: {error}");
    Error::Unavailable
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
