//! Large values: written and read piece by piece.
//!
//! Owns the chunks. A value's chunks are written under a fresh id before the entry that names them, and
//! removed after the entry is gone and the last reader has finished. Until an entry names them, and again
//! once none does, the id stands in the list of loose chunks, so that a crash leaves nothing behind.

use super::format::{ChunkId, Place, Record, chunk_key};
use super::writer::Writer;
use super::{CHUNKS, Held, Inner, LOOSE, hold, later, too_large};
use crate::storage::{Entry, StoreError, ValueStream};
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use rocksdb::{ErrorKind, ReadOptions, ReadTier, WriteBatch};
use std::collections::HashMap;
use std::sync::Arc;

/// Larger values are kept in chunks.
pub(super) const INLINE: usize = 64 << 10;
/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;

/// A value on its way to the writer.
pub(super) enum Value {
    Inline(Bytes),
    Chunks(Chunks),
}

impl Value {
    pub(super) fn place(&self) -> Place<&[u8]> {
        match self {
            Self::Inline(value) => Place::Inline(value),
            Self::Chunks(chunks) => Place::Chunks { id: chunks.id, size: chunks.size },
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inline(value) => value.len(),
            Self::Chunks(_) => 0,
        }
    }
}

/// Chunks that no entry names yet. Dropped, they are removed.
pub(super) struct Chunks {
    pub(super) id: ChunkId,
    pub(super) size: u64,
    inner: Arc<Inner>,
    kept: bool,
}

impl Chunks {
    /// An entry names them now.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.inner.remove_chunks(&self.id)
        {
            tracing::warn!(
                "an abandoned upload could not be removed and goes at the next start: {error}"
            );
        }
    }
}

/// Who is reading which chunks.
#[derive(Default)]
pub(super) struct Readers(Mutex<HashMap<ChunkId, Reading>>);

#[derive(Default)]
struct Reading {
    readers: usize,
    /// The entry is gone: the last reader sees to the chunks.
    doomed: bool,
}

impl Readers {
    fn enter(&self, id: ChunkId) {
        self.0.lock().entry(id).or_default().readers += 1;
    }

    /// True when the chunks are to be removed now.
    fn leave(&self, id: &ChunkId) -> bool {
        let mut map = self.0.lock();
        let Some(reading) = map.get_mut(id) else { return false };
        reading.readers = reading.readers.saturating_sub(1);
        if reading.readers > 0 {
            return false;
        }
        map.remove(id).is_some_and(|reading| reading.doomed)
    }

    /// The entry is gone. True when nobody reads and the chunks are to be removed now.
    pub(super) fn doom(&self, id: &ChunkId) -> bool {
        match self.0.lock().get_mut(id) {
            Some(reading) => {
                reading.doomed = true;
                false
            }
            None => true,
        }
    }
}

/// Keeps the chunks of a value from being removed.
struct Guard {
    id: ChunkId,
    inner: Arc<Inner>,
    writer: Writer,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.inner.readers.leave(&self.id) {
            self.writer.remove_chunks(self.id);
        }
    }
}

impl Inner {
    pub(super) fn remove_chunks(&self, id: &ChunkId) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(
            self.family(CHUNKS)?,
            chunk_key(id, 0).as_slice(),
            chunk_key(id, u32::MAX).as_slice(),
        );
        batch.delete_cf(self.family(LOOSE)?, id);
        Ok(self.db.write(batch)?)
    }

    /// What a crash left behind.
    pub(super) fn remove_loose_chunks(&self) -> Result<(), StoreError> {
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(LOOSE)?, ReadOptions::default());
        cursor.seek_to_first();
        let mut ids = Vec::new();
        while let Some(key) = cursor.key() {
            ids.extend(ChunkId::try_from(key));
            cursor.next();
        }
        cursor.status()?;
        ids.iter().try_for_each(|id| self.remove_chunks(id))
    }

    fn read_chunk(
        &self,
        id: &ChunkId,
        index: u32,
        from_disk: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut options = ReadOptions::default();
        if !from_disk {
            options.set_read_tier(ReadTier::BlockCache);
        }
        match self.db.get_pinned_cf_opt(self.family(CHUNKS)?, chunk_key(id, index), &options) {
            Ok(Some(bytes)) => Ok(Some(Bytes::copy_from_slice(&bytes))),
            Ok(None) => {
                Err(StoreError::Unavailable("a chunk of a large value is missing".to_owned()))
            }
            Err(error) if !from_disk && error.kind() == ErrorKind::Incomplete => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes in a value, of which at most a few chunks are in memory at a time.
pub(super) async fn receive(
    inner: &Arc<Inner>,
    mut body: BoxStream<'static, Result<Bytes, StoreError>>,
) -> Result<Value, StoreError> {
    let mut buffer = BytesMut::new();
    let mut chunks: Option<Chunks> = None;
    let mut size: u64 = 0;
    let mut index = 0;
    while let Some(piece) = body.next().await {
        let mut piece = piece?;
        size = size.saturating_add(piece.len() as u64);
        if size > inner.limits.value {
            return Err(too_large(&inner.limits));
        }
        // A piece that is a whole value already is cut without being copied first.
        while buffer.len() + piece.len() > CHUNK {
            buffer.extend_from_slice(&piece.split_to(CHUNK - buffer.len()));
            let full = std::mem::take(&mut buffer).freeze();
            write_chunk(inner, &mut chunks, &mut index, full).await?;
        }
        buffer.extend_from_slice(&piece);
    }
    if chunks.is_none() && buffer.len() <= INLINE {
        return Ok(Value::Inline(buffer.freeze()));
    }
    if !buffer.is_empty() {
        write_chunk(inner, &mut chunks, &mut index, buffer.freeze()).await?;
    }
    match chunks {
        Some(mut chunks) => {
            chunks.size = size;
            Ok(Value::Chunks(chunks))
        }
        None => Ok(Value::Inline(Bytes::new())),
    }
}

async fn write_chunk(
    inner: &Arc<Inner>,
    chunks: &mut Option<Chunks>,
    index: &mut u32,
    bytes: Bytes,
) -> Result<(), StoreError> {
    let first = chunks.is_none();
    let id = chunks
        .get_or_insert_with(|| Chunks {
            id: rand::random(),
            size: 0,
            inner: inner.clone(),
            kept: false,
        })
        .id;
    let at = *index;
    *index += 1;
    let inner = inner.clone();
    later(move || {
        let mut batch = WriteBatch::default();
        if first {
            batch.put_cf(inner.family(LOOSE)?, id, []);
        }
        batch.put_cf(inner.family(CHUNKS)?, chunk_key(&id, at), &bytes);
        Ok(inner.db.write(batch)?)
    })
    .resolve()
    .await
}

/// A value that is in memory, as a stream.
pub(super) fn whole(entry: Entry, offset: u64, length: Option<u64>) -> ValueStream {
    let size = entry.value.len();
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(size);
    let length = length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
    let piece = entry.value.slice(start..start.saturating_add(length).min(size));
    let pieces = (!piece.is_empty()).then_some(Ok(piece));
    ValueStream { info: entry.info, body: futures::stream::iter(pieces).boxed() }
}

/// Opens a value on a thread that may block.
pub(super) fn open(
    inner: &Arc<Inner>,
    writer: Writer,
    key: &[u8],
    offset: u64,
    length: Option<u64>,
) -> Result<Option<ValueStream>, StoreError> {
    loop {
        let Some(held) = inner.look(key, true, hold).unwrap_or(Ok(None))? else { return Ok(None) };
        let (id, info) = match held {
            Held::Whole(entry) => return Ok(Some(whole(entry, offset, length))),
            Held::Chunked(id, info) => (id, info),
        };
        inner.readers.enter(id);
        let guard = Guard { id, inner: inner.clone(), writer: writer.clone() };
        // Between the look and the guard the value may have been replaced and its chunks removed. If the
        // entry still names them now, whoever replaces it from here on will see the guard.
        let still = inner.look(
            key,
            true,
            |record: Record<'_>| matches!(record.value, Place::Chunks { id: now, .. } if now == id),
        );
        if !matches!(still, Some(Ok(Some(true)))) {
            continue;
        }
        let start = offset.min(info.size);
        let left = length.unwrap_or(u64::MAX).min(info.size - start);
        let chunk = CHUNK as u64;
        let reading = Cursor {
            guard,
            index: u32::try_from(start / chunk).unwrap_or(u32::MAX),
            skip: usize::try_from(start % chunk).unwrap_or(0),
            left,
        };
        let body = futures::stream::try_unfold(reading, Cursor::next).boxed();
        return Ok(Some(ValueStream { info, body }));
    }
}

struct Cursor {
    guard: Guard,
    index: u32,
    /// Bytes of the next chunk to leave out.
    skip: usize,
    left: u64,
}

impl Cursor {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let (id, index) = (self.guard.id, self.index);
        let chunk = match self.guard.inner.read_chunk(&id, index, false)? {
            Some(chunk) => chunk,
            None => {
                let inner = self.guard.inner.clone();
                later(move || inner.read_chunk(&id, index, true))
                    .resolve()
                    .await?
                    .unwrap_or_default()
            }
        };
        let piece = chunk.slice(self.skip.min(chunk.len())..);
        let piece =
            piece.slice(..piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
        if piece.is_empty() {
            return Err(StoreError::Unavailable(
                "a large value is shorter than it says".to_owned(),
            ));
        }
        self.left -= piece.len() as u64;
        self.skip = 0;
        self.index += 1;
        Ok(Some((piece, self)))
    }
}
