//! Rooms in the database.
//!
//! Owns the layout of the column family of rooms. One family, and in it by the first byte: `m` meta rows, `d`
//! data, `c` open connections, `a` alarms by the time at which they are due, `e` the epoch. Commits go through
//! the one writer, which compares epochs and shares its `fsync` with everyone else's writes. A room's part of
//! a key ends with NUL, which neither a plugin's name nor a room's can have: no room reads another's keys.

use super::{Inner, ROOMS, Rocks, later};
use crate::storage::rooms::{
    Commit, CommitError, Durable, MetaWrite, RoomKey, RoomMeta, RoomStore, Scan, Table,
};
use crate::storage::{Answer, StoreError};
use bytes::Bytes;
use futures::future::BoxFuture;
use rocksdb::{ErrorKind, ReadOptions, ReadTier};
use std::sync::Arc;

/// Pairs that are read on the caller's thread when memory has them.
const INLINE_SCAN: usize = 256;
/// Deleted keys that such a read skips before it is left to another thread.
const INLINE_SKIPS: u64 = 1000;

/// Where the epoch is kept.
pub(super) const EPOCH: &[u8] = b"e";

/// A write with its key as it lies in the database.
pub(super) type RoomStep = (Vec<u8>, Option<Bytes>);

fn prefix(kind: u8, room: &RoomKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(room.plugin.len() + room.name.len() + 64);
    key.push(kind);
    key.extend(room.plugin.as_bytes());
    key.push(0);
    key.extend(room.name.as_bytes());
    key.push(0);
    key
}

fn table_key(table: Table, room: &RoomKey, key: &[u8]) -> Vec<u8> {
    let kind = match table {
        Table::Data => b'd',
        Table::Connections => b'c',
    };
    let mut bytes = prefix(kind, room);
    bytes.extend(key);
    bytes
}

fn alarm_key(due: u64, room: &RoomKey) -> Vec<u8> {
    let mut key = vec![b'a'];
    key.extend(due.to_be_bytes());
    key.extend(prefix(0, room).split_off(1));
    key
}

/// The smallest key beyond all that begin with this; the last byte of a prefix is NUL or a letter.
fn beyond(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

/// The room of `plugin, NUL, name, NUL, …`.
fn parse_room(bytes: &[u8]) -> Option<RoomKey> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let plugin = std::str::from_utf8(parts.next()?).ok()?;
    let name = std::str::from_utf8(parts.next()?).ok()?;
    Some(RoomKey { plugin: plugin.into(), name: name.into() })
}

/// A commit as the writer takes it.
fn steps(commit: Commit) -> Vec<RoomStep> {
    let room = &commit.room;
    let mut steps: Vec<RoomStep> = commit
        .writes
        .into_iter()
        .map(|write| (table_key(write.table, room, &write.key), write.value))
        .collect();
    if let Some(meta) = commit.meta {
        let due = match meta {
            MetaWrite::Put(meta) => meta.alarm.and_then(|alarm| alarm.due),
            MetaWrite::Delete => None,
        };
        if due != commit.due_before {
            steps.extend(commit.due_before.map(|due| (alarm_key(due, room), None)));
            steps.extend(due.map(|due| (alarm_key(due, room), Some(Bytes::new()))));
        }
        let row = match meta {
            MetaWrite::Put(meta) => Some(meta.encode().into()),
            MetaWrite::Delete => None,
        };
        steps.push((prefix(b'm', room), row));
    }
    steps
}

/// Reads, from memory alone or also from disk. None: memory does not suffice.
fn from_memory<T>(read: Result<T, rocksdb::Error>, disk: bool) -> Option<Result<T, StoreError>> {
    match read {
        Err(error) if !disk && error.kind() == ErrorKind::Incomplete => None,
        Err(error) => Some(Err(error.into())),
        Ok(read) => Some(Ok(read)),
    }
}

impl Inner {
    fn room_value(&self, key: &[u8], disk: bool) -> Option<Result<Option<Bytes>, StoreError>> {
        let mut options = ReadOptions::default();
        if !disk {
            options.set_read_tier(ReadTier::BlockCache);
        }
        let family = match self.family(ROOMS) {
            Ok(family) => family,
            Err(error) => return Some(Err(error)),
        };
        let read = self.db.get_pinned_cf_opt(family, key, &options);
        from_memory(read.map(|found| found.map(|bytes| Bytes::copy_from_slice(&bytes))), disk)
    }

    fn room_scan(
        &self,
        prefix: &[u8],
        scan: &Scan,
        disk: bool,
    ) -> Option<Result<Vec<(Bytes, Bytes)>, StoreError>> {
        let family = match self.family(ROOMS) {
            Ok(family) => family,
            Err(error) => return Some(Err(error)),
        };
        let mut options = ReadOptions::default();
        if !disk {
            options.set_read_tier(ReadTier::BlockCache);
            options.set_max_skippable_internal_keys(INLINE_SKIPS);
        }
        let mut start = prefix.to_vec();
        start.extend(&scan.start);
        let end = match &scan.end {
            Some(end) => [prefix, end].concat(),
            None => beyond(prefix.to_vec()),
        };
        if start >= end {
            return Some(Ok(Vec::new()));
        }
        options.set_iterate_lower_bound(start.clone());
        options.set_iterate_upper_bound(end.clone());
        let mut cursor = self.db.raw_iterator_cf_opt(family, options);
        if scan.reverse {
            cursor.seek_to_last()
        } else {
            cursor.seek_to_first()
        }
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        while pairs.len() < scan.limit && bytes < scan.bytes {
            let Some((key, value)) = cursor.item() else { break };
            bytes += key.len() + value.len();
            let key = key.get(prefix.len()..).unwrap_or_default();
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if scan.reverse { cursor.prev() } else { cursor.next() }
        }
        from_memory(cursor.status().map(|()| pairs), disk)
    }

    fn room_list(
        &self,
        plugin: Option<&str>,
        after: Option<&RoomKey>,
        limit: usize,
    ) -> Result<Vec<(RoomKey, RoomMeta)>, StoreError> {
        let mut within = vec![b'm'];
        if let Some(plugin) = plugin {
            within.extend(plugin.as_bytes());
            within.push(0);
        }
        let start = after.map_or_else(|| within.clone(), |after| beyond(prefix(b'm', after)));
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(ROOMS)?, ReadOptions::default());
        cursor.seek(&start);
        let mut rooms = Vec::new();
        while rooms.len() < limit {
            let Some((key, value)) = cursor.item() else { break };
            if !key.starts_with(&within) {
                break;
            }
            if let (Some(room), Some(meta)) =
                (key.get(1..).and_then(parse_room), RoomMeta::decode(value))
            {
                rooms.push((room, meta));
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(rooms)
    }

    fn room_alarms(
        &self,
        after: Option<(u64, RoomKey)>,
        limit: usize,
    ) -> Result<Vec<(u64, RoomKey)>, StoreError> {
        let start = after.map_or_else(|| vec![b'a'], |(due, room)| beyond(alarm_key(due, &room)));
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(ROOMS)?, ReadOptions::default());
        cursor.seek(&start);
        let mut alarms = Vec::new();
        while alarms.len() < limit {
            let Some(key) = cursor.key().and_then(|key| key.strip_prefix(b"a")) else { break };
            if let Some((due, room)) = key.split_first_chunk::<8>()
                && let Some(room) = parse_room(room)
            {
                alarms.push((u64::from_be_bytes(*due), room));
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(alarms)
    }

    fn rooms_with_connections(&self) -> Result<Vec<RoomKey>, StoreError> {
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(ROOMS)?, ReadOptions::default());
        cursor.seek(b"c");
        let mut rooms = Vec::new();
        while let Some(key) = cursor.key().and_then(|key| key.strip_prefix(b"c")) {
            let Some(room) = parse_room(key) else { break };
            cursor.seek(beyond(prefix(b'c', &room)));
            rooms.push(room);
        }
        cursor.status()?;
        Ok(rooms)
    }
}

/// The storage's error in the words of commits.
pub(super) fn unavailable(error: StoreError) -> CommitError {
    match error {
        StoreError::Unavailable(text) => CommitError::Unavailable(text),
        other => CommitError::Unavailable(other.to_string()),
    }
}

impl RoomStore for Rocks {
    fn claim(&self) -> BoxFuture<'static, Result<u64, CommitError>> {
        let writer = self.writer.clone();
        Box::pin(async move { writer.claim().await })
    }

    fn meta(&self, room: &RoomKey) -> Answer<Option<RoomMeta>> {
        let decode = |bytes: Option<Bytes>| match bytes {
            None => Ok(None),
            Some(bytes) => RoomMeta::decode(&bytes).map(Some).ok_or_else(|| {
                StoreError::Unavailable("the meta row of a room is damaged".to_owned())
            }),
        };
        let key = prefix(b'm', room);
        if let Some(found) = self.inner.room_value(&key, false) {
            return Answer::Ready(found.and_then(decode));
        }
        let inner = self.inner.clone();
        later(move || inner.room_value(&key, true).unwrap_or(Ok(None)).and_then(decode))
    }

    fn get(&self, room: &RoomKey, key: &[u8]) -> Answer<Option<Bytes>> {
        let key = table_key(Table::Data, room, key);
        if let Some(found) = self.inner.room_value(&key, false) {
            return Answer::Ready(found);
        }
        let inner = self.inner.clone();
        later(move || inner.room_value(&key, true).unwrap_or(Ok(None)))
    }

    fn scan(&self, room: &RoomKey, table: Table, scan: Scan) -> Answer<Vec<(Bytes, Bytes)>> {
        let prefix = table_key(table, room, &[]);
        if scan.limit <= INLINE_SCAN
            && let Some(found) = self.inner.room_scan(&prefix, &scan, false)
        {
            return Answer::Ready(found);
        }
        let inner = self.inner.clone();
        later(move || inner.room_scan(&prefix, &scan, true).unwrap_or_else(|| Ok(Vec::new())))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'static, Result<Durable, CommitError>> {
        let writer = self.writer.clone();
        let epoch = commit.epoch;
        Box::pin(async move { writer.commit(epoch, steps(commit)).await })
    }

    fn rooms(
        &self,
        plugin: Option<&str>,
        after: Option<&RoomKey>,
        limit: usize,
    ) -> Answer<Vec<(RoomKey, RoomMeta)>> {
        let inner: Arc<Inner> = self.inner.clone();
        let (plugin, after) = (plugin.map(str::to_owned), after.cloned());
        later(move || inner.room_list(plugin.as_deref(), after.as_ref(), limit))
    }

    fn alarms(&self, after: Option<(u64, RoomKey)>, limit: usize) -> Answer<Vec<(u64, RoomKey)>> {
        let inner = self.inner.clone();
        later(move || inner.room_alarms(after, limit))
    }

    fn with_connections(&self) -> Answer<Vec<RoomKey>> {
        let inner = self.inner.clone();
        later(move || inner.rooms_with_connections())
    }
}

#[cfg(test)]
mod tests;
