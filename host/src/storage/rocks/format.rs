//! How keys and values lie in the database.
//!
//! Owns the bytes. An entry is `1, flags, version, expiry, metadata length, metadata`, then the value
//! itself or, for a large one, its size and the id under which its chunks lie. Numbers are little-endian
//! except in keys, where their order must be that of the bytes.

use crate::storage::{Info, StoreError};
use bytes::Bytes;

/// The first byte of an entry: a later format will have another.
const FORMAT: u8 = 1;
const CHUNKED: u8 = 1;
/// Format, flags, version, expiry, length of the metadata.
const HEADER: usize = 1 + 1 + 8 + 8 + 2;

/// The id of a large value's chunks: random, so that no two values ever share one.
pub(super) type ChunkId = [u8; 16];

/// An entry taken apart, borrowing from the database's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) version: u64,
    /// 0: never.
    pub(super) expires_at: u64,
    pub(super) metadata: &'a [u8],
    pub(super) value: Place<&'a [u8]>,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<V> {
    Inline(V),
    Chunks { id: ChunkId, size: u64 },
}

impl<'a> Record<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, StoreError> {
        Self::try_parse(bytes)
            .ok_or_else(|| StoreError::Unavailable("an entry is damaged".to_owned()))
    }

    fn try_parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (&format, header) = header.split_first()?;
        let (&flags, header) = header.split_first()?;
        let (version, header) = header.split_first_chunk::<8>()?;
        let (expires_at, header) = header.split_first_chunk::<8>()?;
        let (length, _) = header.split_first_chunk::<2>()?;
        if format != FORMAT {
            return None;
        }
        let (metadata, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let value = if flags & CHUNKED == 0 {
            Place::Inline(value)
        } else {
            let (id, size) = value.split_first_chunk::<16>()?;
            Place::Chunks { id: *id, size: u64::from_le_bytes(size.try_into().ok()?) }
        };
        Some(Self {
            version: u64::from_le_bytes(*version),
            expires_at: u64::from_le_bytes(*expires_at),
            metadata,
            value,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.metadata.len() + 64);
        let flags = if matches!(self.value, Place::Inline(_)) { 0 } else { CHUNKED };
        bytes.extend([FORMAT, flags]);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.expires_at.to_le_bytes());
        // The limit for metadata keeps this in range.
        bytes.extend(u16::try_from(self.metadata.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(self.metadata);
        match self.value {
            Place::Inline(value) => bytes.extend(value),
            Place::Chunks { id, size } => {
                bytes.extend(id);
                bytes.extend(size.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    pub(super) fn info(&self) -> Info {
        Info {
            size: match self.value {
                Place::Inline(value) => value.len() as u64,
                Place::Chunks { size, .. } => size,
            },
            metadata: Bytes::copy_from_slice(self.metadata),
            version: self.version,
            expires_at: (self.expires_at != 0).then_some(self.expires_at),
        }
    }
}

/// Namespace, NUL, key: a namespace is one range, and no key of one is in another's.
pub(super) fn entry_key(namespace: &str, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(namespace.len() + 1 + key.len());
    bytes.extend(namespace.as_bytes());
    bytes.push(0);
    bytes.extend(key.as_bytes());
    bytes
}

pub(super) fn chunk_key(id: &ChunkId, index: u32) -> [u8; 20] {
    let mut key = [0; 20];
    let (front, back) = key.split_at_mut(16);
    front.copy_from_slice(id);
    back.copy_from_slice(&index.to_be_bytes());
    key
}

/// When, then which: the order in which large values expire.
pub(super) fn expiry_key(at: u64, id: &ChunkId) -> [u8; 24] {
    let mut key = [0; 24];
    let (front, back) = key.split_at_mut(8);
    front.copy_from_slice(&at.to_be_bytes());
    back.copy_from_slice(id);
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            version: u64, expires_at: u64, metadata: Vec<u8>, value: Vec<u8>, id: ChunkId, size: u64,
        ) {
            for value in [Place::Inline(value.as_slice()), Place::Chunks { id, size }] {
                let record = Record { version, expires_at, metadata: &metadata, value };
                let bytes = record.encode();
                prop_assert_eq!(Record::parse(&bytes).unwrap(), record);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            _ = Record::parse(&bytes);
        }
    }
}
