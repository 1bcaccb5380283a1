//! What the host remembers of a room while it is in memory.
//!
//! Owns connections with their attachments, rules, the meta row, and the writes that are not durable yet. All of
//! it outlives the instance: an instance that is dropped takes nothing along but its own memory.

use super::alarms::Alarms;
use super::event::Accepting;
use super::relay::Rule;
use super::socket::{Frame, Socket};
use super::usage::{Seat, Usage};
use crate::storage::StoreError;
use crate::storage::rooms::{RoomKey, RoomMeta, RoomStore, RoomWrite, Scan, Table};
use bytes::Bytes;
use guesthouse_bindings::rooms::types::{ConnId, Connection as Seen, Principal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};

/// A connection of a room.
pub struct Connection {
    /// Its socket.
    pub socket: Arc<Socket>,
    /// What the room keeps beside it.
    pub attachment: Bytes,
    /// The last message that was relayed.
    pub last_relayed: Option<Frame>,
    /// What the host does with its messages by itself.
    pub rule: Option<Rule>,
    /// Its place among all connections of the plugin.
    pub seat: Seat,
}

impl Connection {
    /// As the room sees it.
    pub fn seen(&self) -> Seen {
        Seen {
            id: self.socket.id,
            principal: self.socket.principal(),
            tags: self.socket.tags().to_vec(),
            attachment: self.attachment.to_vec(),
            opened_at: self.socket.opened_at,
            queued_bytes: self.socket.queued(),
        }
    }
}

/// A write that is not durable yet.
pub struct Unsettled {
    commit: u64,
    value: Option<Bytes>,
}

/// A room in memory.
pub struct Room {
    /// Which.
    pub key: RoomKey,
    /// The epoch under which this house owns it.
    pub epoch: u64,
    /// Where it is kept.
    pub store: Arc<dyn RoomStore>,
    /// Who is told when its alarm is set.
    pub alarms: Arc<Alarms>,
    /// What all rooms of its plugin use.
    pub usage: Arc<Usage>,
    /// Its meta row, with what is not durable yet.
    pub meta: RoomMeta,
    /// Whether it has a meta row.
    pub exists: bool,
    /// Open connections.
    pub connections: BTreeMap<ConnId, Connection>,
    /// Text that the host answers by itself.
    pub auto_response: Option<(String, String)>,
    /// Beginnings of messages that the host relays by itself.
    pub relay: Vec<Vec<u8>>,
    unsettled: BTreeMap<Vec<u8>, Unsettled>,
    log: VecDeque<(u64, Vec<Vec<u8>>)>,
    commits: u64,
    settled: Arc<AtomicU64>,
    everyone: Option<Arc<[Arc<Socket>]>>,
    /// The last commit that was made in the middle of an event.
    pub accepting: Option<Accepting>,
}

/// The row of an open connection: what `on-close` needs when the house crashed.
#[derive(Serialize, Deserialize)]
struct Row {
    opened_at: u64,
    tags: Vec<String>,
    principal: Option<(String, String)>,
}

impl Room {
    /// Reads what is kept of a room, and the connections that a crash has left open.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn load(
        key: RoomKey,
        epoch: u64,
        store: Arc<dyn RoomStore>,
        alarms: Arc<Alarms>,
        usage: Arc<Usage>,
    ) -> Result<(Self, Vec<Seen>), StoreError> {
        let meta = store.meta(&key).resolve().await?;
        let mut left_open = Vec::new();
        let mut start = Vec::new();
        loop {
            let scan = Scan { start, end: None, limit: 100, bytes: 1 << 20, reverse: false };
            let rows = store.scan(&key, Table::Connections, scan).resolve().await?;
            let Some((last, _)) = rows.last() else { break };
            start = [last, &b"\0"[..]].concat();
            left_open.extend(rows.iter().filter_map(|(id, row)| decode_row(id, row)));
        }
        let room = Self {
            key,
            epoch,
            store,
            alarms,
            usage,
            meta: meta.unwrap_or_default(),
            exists: meta.is_some(),
            connections: BTreeMap::new(),
            auto_response: None,
            relay: Vec::new(),
            unsettled: BTreeMap::new(),
            log: VecDeque::new(),
            commits: 0,
            settled: Arc::default(),
            everyone: None,
            accepting: None,
        };
        Ok((room, left_open))
    }

    /// All sockets, as a list that is shared until somebody comes or goes.
    pub fn everyone(&mut self) -> Arc<[Arc<Socket>]> {
        self.everyone
            .get_or_insert_with(|| self.connections.values().map(|c| c.socket.clone()).collect())
            .clone()
    }

    /// Somebody came.
    pub fn enter(&mut self, connection: Connection) {
        self.everyone = None;
        self.connections.insert(connection.socket.id, connection);
    }

    /// Somebody went.
    pub fn leave(&mut self, id: ConnId) -> Option<Connection> {
        self.everyone = None;
        self.connections.remove(&id)
    }

    /// The number up to which commits are durable: for whoever waits for them.
    pub fn settled(&self) -> Arc<AtomicU64> {
        self.settled.clone()
    }

    /// Notes what a commit writes, and gives its number.
    pub fn note(&mut self, writes: &BTreeMap<Vec<u8>, Option<Bytes>>) -> u64 {
        self.forget_settled();
        self.commits += 1;
        for (key, value) in writes {
            let unsettled = Unsettled { commit: self.commits, value: value.clone() };
            self.unsettled.insert(key.clone(), unsettled);
        }
        if !writes.is_empty() {
            self.log.push_back((self.commits, writes.keys().cloned().collect()));
        }
        self.commits
    }

    /// The number of the last commit.
    pub fn last_number(&self) -> u64 {
        self.commits
    }

    fn forget_settled(&mut self) {
        let settled = self.settled.load(Acquire);
        while self.log.front().is_some_and(|(number, _)| *number <= settled) {
            let Some((number, keys)) = self.log.pop_front() else { break };
            for key in keys {
                if self.unsettled.get(&key).is_some_and(|write| write.commit == number) {
                    self.unsettled.remove(&key);
                }
            }
        }
    }

    /// A write that may not be in the storage yet; none: ask the storage.
    pub fn unsettled(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.unsettled.get(key).map(|write| write.value.clone())
    }

    /// Writes of a range that may not be in the storage yet.
    pub fn unsettled_within(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl Iterator<Item = (&Vec<u8>, &Option<Bytes>)> {
        self.unsettled
            .range::<[u8], _>((
                std::ops::Bound::Included(start),
                end.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
            ))
            .map(|(key, write)| (key, &write.value))
    }
}

/// The row that says that a connection is open.
pub fn open_row(socket: &Socket, attachment: &[u8]) -> RoomWrite {
    let row = Row {
        opened_at: socket.opened_at,
        tags: socket.tags().to_vec(),
        principal: socket.principal().map(|p| (p.subject, p.claims_json)),
    };
    let head = serde_json::to_vec(&row).unwrap_or_default();
    let mut value = u32::try_from(head.len()).unwrap_or(0).to_le_bytes().to_vec();
    value.extend(head);
    value.extend(attachment);
    RoomWrite {
        table: Table::Connections,
        key: socket.id.to_be_bytes().to_vec(),
        value: Some(value.into()),
    }
}

/// The deletion of that row.
pub fn closed_row(id: ConnId) -> RoomWrite {
    RoomWrite { table: Table::Connections, key: id.to_be_bytes().to_vec(), value: None }
}

fn decode_row(id: &[u8], row: &[u8]) -> Option<Seen> {
    let id = u64::from_be_bytes(id.try_into().ok()?);
    let (length, rest) = row.split_first_chunk::<4>()?;
    let (head, attachment) =
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let row: Row = serde_json::from_slice(head).ok()?;
    Some(Seen {
        id,
        principal: row.principal.map(|(subject, claims_json)| Principal { subject, claims_json }),
        tags: row.tags,
        attachment: attachment.to_vec(),
        opened_at: row.opened_at,
        queued_bytes: 0,
    })
}
