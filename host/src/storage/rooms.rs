//! What rooms need of a storage engine: the [`RoomStore`] trait.
//!
//! Owns the meaning of a commit: everything that one event of a room wrote, atomic, fenced by the epoch of
//! the room's owner, in the order in which commits of a room were queued. Keys are bytes and have an order.
//! The danger that shaped it: an owner that was paused, lost its rooms to another, wakes up and writes.

use super::Answer;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Which room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    /// The plugin whose code it runs.
    pub plugin: Arc<str>,
    /// 1 to 128 bytes without control characters.
    pub name: Arc<str>,
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plugin, self.name)
    }
}

/// An alarm that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// For when the room set it, in milliseconds since 1970.
    pub scheduled_at: u64,
    /// When it is tried next; none: it failed too often and is parked.
    pub due: Option<u64>,
    /// How often it was tried.
    pub retries: u32,
}

/// What is known of a room without its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomMeta {
    /// Keys and values together.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
    /// The newest schema number under which it was written.
    pub schema: u32,
    /// Its alarm.
    pub alarm: Option<Alarm>,
}

impl RoomMeta {
    /// The layout: format, bytes, keys, schema, flags, scheduled, due, retries; little-endian.
    const SIZE: usize = 1 + 8 + 8 + 4 + 1 + 8 + 8 + 4;
    const FORMAT: u8 = 1;

    /// As it is kept.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.push(Self::FORMAT);
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.keys.to_le_bytes());
        bytes.extend(self.schema.to_le_bytes());
        let flags = match self.alarm {
            None => 0,
            Some(Alarm { due: None, .. }) => 1,
            Some(Alarm { due: Some(_), .. }) => 3,
        };
        bytes.push(flags);
        let alarm = self.alarm.unwrap_or(Alarm { scheduled_at: 0, due: None, retries: 0 });
        bytes.extend(alarm.scheduled_at.to_le_bytes());
        bytes.extend(alarm.due.unwrap_or_default().to_le_bytes());
        bytes.extend(alarm.retries.to_le_bytes());
        bytes
    }

    /// From what was kept; none: damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&format, rest) = bytes.split_first()?;
        let (total, rest) = rest.split_first_chunk::<8>()?;
        let (keys, rest) = rest.split_first_chunk::<8>()?;
        let (schema, rest) = rest.split_first_chunk::<4>()?;
        let (&flags, rest) = rest.split_first()?;
        let (scheduled, rest) = rest.split_first_chunk::<8>()?;
        let (due, rest) = rest.split_first_chunk::<8>()?;
        let (retries, _) = rest.split_first_chunk::<4>()?;
        (format == Self::FORMAT).then(|| Self {
            bytes: u64::from_le_bytes(*total),
            keys: u64::from_le_bytes(*keys),
            schema: u32::from_le_bytes(*schema),
            alarm: (flags & 1 != 0).then(|| Alarm {
                scheduled_at: u64::from_le_bytes(*scheduled),
                due: (flags & 2 != 0).then(|| u64::from_le_bytes(*due)),
                retries: u32::from_le_bytes(*retries),
            }),
        })
    }
}

/// Which of a room's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// What the room keeps.
    Data,
    /// Its open connections, by id (eight bytes, big-endian): what is here after a crash was not closed.
    Connections,
}

/// A part of a table.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Inclusive.
    pub start: Vec<u8>,
    /// Exclusive; none: to the last key.
    pub end: Option<Vec<u8>>,
    /// Pairs at most.
    pub limit: usize,
    /// About so many bytes at most, but at least one pair.
    pub bytes: usize,
    /// From the end.
    pub reverse: bool,
}

/// A write of a commit.
#[derive(Clone, Debug)]
pub struct RoomWrite {
    /// Where.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// None: deleted.
    pub value: Option<Bytes>,
}

/// What the meta row of a room becomes.
#[derive(Clone, Copy, Debug)]
pub enum MetaWrite {
    /// This.
    Put(RoomMeta),
    /// Nothing: the room does not exist any more.
    Delete,
}

/// Everything that one event wrote.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which room.
    pub room: RoomKey,
    /// The epoch under which the writer owns it.
    pub epoch: u64,
    /// Writes; at most one a key.
    pub writes: Vec<RoomWrite>,
    /// The meta row; none: it stays.
    pub meta: Option<MetaWrite>,
    /// When the alarm was due before this commit, which moves it in the index.
    pub due_before: Option<u64>,
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else owns the room. Nothing was written.
    #[error("the room belongs to a newer epoch")]
    Fenced,
    /// The disk or the engine failed; whether it was written is not known.
    #[error("storage failed: {0}")]
    Unavailable(String),
}

/// Resolves when a commit is durable, or was refused. A dropped sender means that the storage closed.
pub type Durable = oneshot::Receiver<Result<(), CommitError>>;

/// The storage of rooms.
pub trait RoomStore: Send + Sync + 'static {
    /// Takes ownership of all rooms: commits under an older epoch are refused from now on. The new epoch.
    fn claim(&self) -> BoxFuture<'static, Result<u64, CommitError>>;

    /// A room's meta row; none: the room does not exist.
    fn meta(&self, room: &RoomKey) -> Answer<Option<RoomMeta>>;

    /// A value of [`Table::Data`].
    fn get(&self, room: &RoomKey, key: &[u8]) -> Answer<Option<Bytes>>;

    /// Pairs in the order of their keys.
    fn scan(&self, room: &RoomKey, table: Table, scan: Scan) -> Answer<Vec<(Bytes, Bytes)>>;

    /// Queues a commit; the future resolves when it has its place in the order, and gives what resolves
    /// when it is durable.
    fn commit(&self, commit: Commit) -> BoxFuture<'static, Result<Durable, CommitError>>;

    /// Rooms that exist, in order, those after `after`; of one plugin, or of all.
    fn rooms(
        &self,
        plugin: Option<&str>,
        after: Option<&RoomKey>,
        limit: usize,
    ) -> Answer<Vec<(RoomKey, RoomMeta)>>;

    /// Alarms by the time at which they are due, those after `after`.
    fn alarms(&self, after: Option<(u64, RoomKey)>, limit: usize) -> Answer<Vec<(u64, RoomKey)>>;

    /// Rooms that have rows in [`Table::Connections`].
    fn with_connections(&self) -> Answer<Vec<RoomKey>>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_meta_row_that_is_written_is_read(
            bytes: u64, keys: u64, schema: u32, alarm: Option<(u64, Option<u64>, u32)>,
        ) {
            let alarm = alarm.map(|(scheduled_at, due, retries)| Alarm { scheduled_at, due, retries });
            let meta = RoomMeta { bytes, keys, schema, alarm };
            prop_assert_eq!(RoomMeta::decode(&meta.encode()).unwrap(), meta);
        }

        #[test]
        fn no_bytes_make_a_meta_row_panic(bytes: Vec<u8>) {
            _ = RoomMeta::decode(&bytes);
        }
    }
}
