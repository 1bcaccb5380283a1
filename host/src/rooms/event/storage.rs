//! An event and the room's own keys and values.
//!
//! Owns what a room reads: what its event has written, over what is on its way to the disk, over what is there.
//! It counts bytes and keys, so that a room over its limits is refused at the write and not at the commit.

use super::{Answer, Event, PAGE_PAIRS};
use crate::storage::StoreError;
use crate::storage::rooms::{Scan, Table};
use bytes::Bytes;
use guesthouse_bindings::rooms::types::Error;
use std::collections::BTreeMap;

/// Bytes of a key.
pub(super) const KEY: usize = 1024;
/// Bytes of a value.
pub(super) const VALUE: usize = 1 << 20;
/// Keys that one transaction writes.
const WRITES: usize = 10_000;
/// Bytes that one transaction writes.
const WRITE_BYTES: usize = 16 << 20;
/// Bytes of one page of a scan.
const PAGE: usize = 1 << 20;

impl Event {
    pub(super) async fn look(&self, key: &[u8]) -> Answer<Option<Bytes>> {
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
        if let Err((name, most)) = self.room.usage.allows(&self.room.meta, &meta, &self.limits)
            && value.is_some()
        {
            return Err(Error::Limit(format!(
                "the rooms of the plugin may keep {most} in all ({name})"
            )));
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
