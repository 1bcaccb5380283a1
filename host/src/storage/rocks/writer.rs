//! The one thread that writes.
//!
//! Owns the order of writes, their conditions, their versions, and the moment at which they count as
//! done. It takes what is waiting, checks each request against the state that the ones before it leave, and
//! writes all of it as one batch with one `fsync`. A request whose condition fails is answered and leaves
//! no trace in the batch. After an error of the disk everyone in the batch is told: a write that may be
//! lost is never acknowledged.

use super::chunks::Value;
use super::format::{ChunkId, Place, Record, expiry_key};
use super::rooms::{EPOCH, RoomStep, unavailable};
use super::{ENTRIES, EXPIRY, Inner, LOOSE, META, ROOMS};
use crate::config::Durability;
use crate::storage::rooms::{CommitError, Durable};
use crate::storage::{Condition, Effect, StoreError};
use bytes::Bytes;
use rocksdb::{ReadOptions, WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the writer; beyond, callers wait for the queue.
const QUEUE: usize = 1024;
/// Requests in one batch.
const GROUP: usize = 256;
/// Bytes of values that may wait in memory.
const WAITING_BYTES: usize = 64 << 20;
/// How often large values that have expired are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
const CLOSED: &str = "the storage is closed";
/// Where the last version is kept.
const VERSION: &[u8] = b"version";

/// A value and what belongs to it.
pub(super) struct Put {
    pub(super) metadata: Bytes,
    pub(super) expires_at: u64,
    pub(super) value: Value,
}

/// One step of an atomic write, with its key as it lies in the database.
pub(super) enum Step {
    Put { key: Vec<u8>, put: Put, condition: Condition },
    Delete { key: Vec<u8>, condition: Condition },
    Increment { key: Vec<u8>, delta: i64 },
    Check { key: Vec<u8>, condition: Condition },
}

type Done = oneshot::Sender<Result<Vec<Effect>, StoreError>>;

struct Request {
    steps: Vec<Step>,
    done: Done,
    _bytes: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// What one event of a room wrote.
struct RoomCommit {
    epoch: u64,
    steps: Vec<RoomStep>,
    done: oneshot::Sender<Result<(), CommitError>>,
    _bytes: Option<tokio::sync::OwnedSemaphorePermit>,
}

type Claimed = oneshot::Sender<Result<u64, CommitError>>;

enum Message {
    Write(Request),
    Room(RoomCommit),
    Claim(Claimed),
    RemoveChunks(ChunkId),
}

/// The way to the writer.
#[derive(Clone)]
pub(super) struct Writer {
    sender: mpsc::Sender<Message>,
    bytes: Arc<Semaphore>,
    late: mpsc::UnboundedSender<Message>,
}

/// The writing thread, for whoever ends it.
///
/// The thread holds the database open. A process that exits while it closes the database tears down
/// RocksDB's own globals under it, and aborts: so the end of the thread is waited for.
pub(super) struct Thread {
    closing: CancellationToken,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the storage's writer panicked");
        }
    }
}

impl Writer {
    pub(super) fn start(
        inner: Arc<Inner>,
        durability: Durability,
    ) -> Result<(Self, Thread), StoreError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (late, late_receiver) = mpsc::unbounded_channel();
        let version = match inner.db.get_cf(inner.family(META)?, VERSION)? {
            Some(bytes) => bytes.try_into().map(u64::from_le_bytes).map_err(|_| {
                StoreError::Unavailable("the version counter is damaged".to_owned())
            })?,
            None => 0,
        };
        let epoch = match inner.db.get_cf(inner.family(ROOMS)?, EPOCH)? {
            Some(bytes) => bytes.try_into().map(u64::from_le_bytes).map_err(|_| {
                StoreError::Unavailable("the epoch of the rooms is damaged".to_owned())
            })?,
            None => 0,
        };
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Fsync);
        let closing = CancellationToken::new();
        let mut state = State { inner, options, version, epoch, last_expiry: Instant::now() };
        let handle = std::thread::Builder::new()
            .name("storage-writer".into())
            .spawn({
                let closing = closing.clone();
                move || state.run(receiver, late_receiver, &closing)
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let writer = Self { sender, bytes: Arc::new(Semaphore::new(WAITING_BYTES)), late };
        Ok((writer, Thread { closing, handle: Some(handle) }))
    }

    pub(super) async fn submit(&self, steps: Vec<Step>) -> Result<Vec<Effect>, StoreError> {
        let size: usize = steps
            .iter()
            .map(|step| if let Step::Put { put, .. } = step { put.value.len() } else { 0 })
            .sum();
        let gone = || StoreError::Unavailable(CLOSED.to_owned());
        let bytes = self.reserve(size).await.map_err(|()| gone())?;
        let (done, answer) = oneshot::channel();
        let request = Request { steps, done, _bytes: bytes };
        self.sender.send(Message::Write(request)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits until so many bytes more may wait in memory.
    async fn reserve(&self, bytes: usize) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, ()> {
        let wanted = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
        if wanted == 0 {
            return Ok(None);
        }
        self.bytes.clone().acquire_many_owned(wanted).await.map(Some).map_err(drop)
    }

    /// Resolves when the commit has its place in the order; its durability is another matter.
    pub(super) async fn commit(
        &self,
        epoch: u64,
        steps: Vec<RoomStep>,
    ) -> Result<Durable, CommitError> {
        let gone = || CommitError::Unavailable(CLOSED.to_owned());
        let size = steps.iter().map(|(_, value)| value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let bytes = self.reserve(size).await.map_err(|()| gone())?;
        let (done, durable) = oneshot::channel();
        let commit = RoomCommit { epoch, steps, done, _bytes: bytes };
        self.sender.send(Message::Room(commit)).await.map_err(|_| gone())?;
        Ok(durable)
    }

    pub(super) async fn claim(&self) -> Result<u64, CommitError> {
        let gone = || CommitError::Unavailable(CLOSED.to_owned());
        let (done, claimed) = oneshot::channel();
        self.sender.send(Message::Claim(done)).await.map_err(|_| gone())?;
        claimed.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Never waits: called when a reader is dropped. There are at most as many as there were readers.
    pub(super) fn remove_chunks(&self, id: ChunkId) {
        _ = self.late.send(Message::RemoveChunks(id));
    }
}

struct State {
    inner: Arc<Inner>,
    options: WriteOptions,
    /// The last one that was given.
    version: u64,
    /// Of the rooms: commits under another one are refused.
    epoch: u64,
    last_expiry: Instant,
}

/// What is known of an entry while a batch is put together.
#[derive(Clone)]
struct Known {
    version: u64,
    expires_at: u64,
    chunks: Option<ChunkId>,
    /// The value, when it is short enough to be a number.
    number: Option<[u8; 8]>,
}

impl Known {
    fn of(record: Record<'_>) -> Self {
        let (chunks, number) = match record.value {
            Place::Inline(value) => (None, value.try_into().ok()),
            Place::Chunks { id, .. } => (Some(id), None),
        };
        Self { version: record.version, expires_at: record.expires_at, chunks, number }
    }
}

/// The batch in the making.
#[derive(Default)]
struct Group {
    batch: WriteBatch,
    /// What the requests before leave behind, by key; none: deleted.
    overlay: HashMap<Vec<u8>, Option<Known>>,
    /// Chunks that no entry will name after this batch.
    freed: Vec<ChunkId>,
    answers: Vec<(Done, Vec<Effect>, Vec<Value>)>,
    rooms: Vec<oneshot::Sender<Result<(), CommitError>>>,
    claims: Vec<(Claimed, u64)>,
}

impl Group {
    fn len(&self) -> usize {
        self.answers.len() + self.rooms.len() + self.claims.len()
    }
}

impl State {
    fn run(
        &mut self,
        mut receiver: mpsc::Receiver<Message>,
        mut late: mpsc::UnboundedReceiver<Message>,
        closing: &CancellationToken,
    ) {
        while let Some(first) = next(&mut receiver, closing) {
            let mut group = Group::default();
            self.take(&mut group, first);
            while group.len() < GROUP
                && let Ok(next) = receiver.try_recv()
            {
                self.take(&mut group, next);
            }
            self.commit(group);
            while let Ok(message) = late.try_recv() {
                self.take(&mut Group::default(), message);
            }
            if self.last_expiry.elapsed() > EXPIRE_EVERY {
                self.last_expiry = Instant::now();
                if let Err(error) = self.expire_chunks() {
                    tracing::warn!("expired values could not be removed: {error}");
                }
            }
        }
    }

    fn take(&mut self, group: &mut Group, message: Message) {
        match message {
            Message::RemoveChunks(id) => {
                if let Err(error) = self.inner.remove_chunks(&id) {
                    tracing::warn!("chunks of a replaced value go at the next start: {error}");
                }
            }
            Message::Write(Request { steps, done, .. }) => {
                if let Err(error) = self.check(group, &steps) {
                    _ = done.send(Err(error));
                    return;
                }
                match self.apply(group, steps) {
                    Ok((effects, values)) => group.answers.push((done, effects, values)),
                    Err(error) => _ = done.send(Err(error)),
                }
            }
            Message::Room(RoomCommit { epoch, steps, done, .. }) => {
                if epoch != self.epoch {
                    _ = done.send(Err(CommitError::Fenced));
                    return;
                }
                match self.apply_room(group, steps) {
                    Ok(()) => group.rooms.push(done),
                    Err(error) => _ = done.send(Err(unavailable(error))),
                }
            }
            Message::Claim(done) => {
                let epoch = self.epoch.saturating_add(1);
                let step = (EPOCH.to_vec(), Some(epoch.to_le_bytes().to_vec().into()));
                match self.apply_room(group, vec![step]) {
                    Ok(()) => {
                        self.epoch = epoch;
                        group.claims.push((done, epoch));
                    }
                    Err(error) => _ = done.send(Err(unavailable(error))),
                }
            }
        }
    }

    /// Nothing of it is in the batch when this fails.
    fn apply_room(&self, group: &mut Group, steps: Vec<RoomStep>) -> Result<(), StoreError> {
        let family = self.inner.family(ROOMS)?;
        for (key, value) in steps {
            match value {
                Some(value) => group.batch.put_cf(family, key, value),
                None => group.batch.delete_cf(family, key),
            }
        }
        Ok(())
    }

    fn known(&self, group: &Group, key: &[u8]) -> Result<Option<Known>, StoreError> {
        if let Some(known) = group.overlay.get(key) {
            return Ok(known.clone());
        }
        let bytes = self.inner.db.get_pinned_cf(self.inner.family(ENTRIES)?, key)?;
        bytes.map(|bytes| Record::parse(&bytes).map(Known::of)).transpose()
    }

    fn is_alive(&self, known: &Known) -> bool {
        known.expires_at == 0 || known.expires_at > self.inner.now()
    }

    /// Nothing is changed before every step of the request is known to be possible.
    fn check(&self, group: &Group, steps: &[Step]) -> Result<(), StoreError> {
        for (index, step) in steps.iter().enumerate() {
            let (key, condition) = match step {
                Step::Put { key, condition, .. }
                | Step::Delete { key, condition }
                | Step::Check { key, condition } => (key, *condition),
                Step::Increment { key, delta } => {
                    let known = self.known(group, key)?.filter(|known| self.is_alive(known));
                    sum(known.as_ref(), *delta)?;
                    continue;
                }
            };
            let holds = match condition {
                Condition::None => true,
                Condition::Absent => !self.known(group, key)?.is_some_and(|k| self.is_alive(&k)),
                Condition::Version(version) => self
                    .known(group, key)?
                    .is_some_and(|k| k.version == version && self.is_alive(&k)),
            };
            if !holds {
                return Err(StoreError::Conflict(u32::try_from(index).unwrap_or(u32::MAX)));
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        group: &mut Group,
        steps: Vec<Step>,
    ) -> Result<(Vec<Effect>, Vec<Value>), StoreError> {
        let mut effects = Vec::with_capacity(steps.len());
        let mut values = Vec::new();
        for step in steps {
            effects.push(match step {
                Step::Put { key, put, .. } => {
                    let version = self.put(group, key, &put)?;
                    values.push(put.value);
                    Effect::Written { version }
                }
                Step::Delete { key, .. } => {
                    let known = self.known(group, &key)?;
                    let existed = known.as_ref().is_some_and(|known| self.is_alive(known));
                    if let Some(known) = known {
                        self.free(group, &known)?;
                        group.batch.delete_cf(self.inner.family(ENTRIES)?, &key);
                        group.overlay.insert(key, None);
                    }
                    Effect::Deleted { existed }
                }
                Step::Increment { key, delta } => {
                    let known = self.known(group, &key)?.filter(|known| self.is_alive(known));
                    let value = sum(known.as_ref(), delta)?;
                    let put = Put {
                        metadata: Bytes::new(),
                        expires_at: known.map_or(0, |known| known.expires_at),
                        value: Value::Inline(Bytes::copy_from_slice(&value.to_le_bytes())),
                    };
                    self.put(group, key, &put)?;
                    Effect::Counted { value }
                }
                Step::Check { .. } => Effect::Checked,
            });
        }
        Ok((effects, values))
    }

    fn put(&mut self, group: &mut Group, key: Vec<u8>, put: &Put) -> Result<u64, StoreError> {
        if let Some(known) = self.known(group, &key)? {
            self.free(group, &known)?;
        }
        self.version += 1;
        let record = Record {
            version: self.version,
            expires_at: put.expires_at,
            metadata: &put.metadata,
            value: put.value.place(),
        };
        if let Value::Chunks(chunks) = &put.value {
            group.batch.delete_cf(self.inner.family(LOOSE)?, chunks.id);
            if put.expires_at != 0 {
                let at = expiry_key(put.expires_at, &chunks.id);
                group.batch.put_cf(self.inner.family(EXPIRY)?, at, &key);
            }
        }
        group.batch.put_cf(self.inner.family(ENTRIES)?, &key, record.encode());
        group.overlay.insert(key, Some(Known::of(record)));
        Ok(self.version)
    }

    /// The entry that was there will be gone: so will its chunks.
    fn free(&self, group: &mut Group, known: &Known) -> Result<(), StoreError> {
        if let Some(id) = known.chunks {
            group.batch.put_cf(self.inner.family(LOOSE)?, id, []);
            if known.expires_at != 0 {
                let at = expiry_key(known.expires_at, &id);
                group.batch.delete_cf(self.inner.family(EXPIRY)?, at);
            }
            group.freed.push(id);
        }
        Ok(())
    }

    fn commit(&mut self, group: Group) {
        let Group { mut batch, freed, answers, rooms, claims, .. } = group;
        let written = if batch.is_empty() {
            Ok(())
        } else {
            self.inner.family(META).and_then(|family| {
                batch.put_cf(family, VERSION, self.version.to_le_bytes());
                Ok(self.inner.db.write_opt(batch, &self.options)?)
            })
        };
        match written {
            Ok(()) => {
                for (done, effects, values) in answers {
                    for value in values {
                        if let Value::Chunks(chunks) = value {
                            chunks.keep();
                        }
                    }
                    _ = done.send(Ok(effects));
                }
                for done in rooms {
                    _ = done.send(Ok(()));
                }
                for (done, epoch) in claims {
                    _ = done.send(Ok(epoch));
                }
                for id in freed {
                    if self.inner.readers.doom(&id) {
                        self.take(&mut Group::default(), Message::RemoveChunks(id));
                    }
                }
            }
            Err(error) => {
                tracing::error!("a write failed and was not acknowledged: {error}");
                for (done, _, values) in answers {
                    // Whether the batch is in the log is not known: chunks that an entry may name stay.
                    for value in values {
                        if let Value::Chunks(chunks) = value {
                            chunks.keep();
                        }
                    }
                    _ = done.send(Err(error.clone()));
                }
                for done in rooms {
                    _ = done.send(Err(unavailable(error.clone())));
                }
                for (done, _) in claims {
                    _ = done.send(Err(unavailable(error.clone())));
                }
            }
        }
    }

    /// Removes large values whose time has come.
    fn expire_chunks(&mut self) -> Result<(), StoreError> {
        let now = self.inner.now();
        let mut due = Vec::new();
        {
            let mut cursor = self
                .inner
                .db
                .raw_iterator_cf_opt(self.inner.family(EXPIRY)?, ReadOptions::default());
            cursor.seek_to_first();
            while let Some((at, key)) = cursor.item() {
                let time = at.first_chunk::<8>().map_or(0, |time| u64::from_be_bytes(*time));
                if time > now {
                    break;
                }
                due.push((at.to_vec(), key.to_vec()));
                cursor.next();
            }
            cursor.status()?;
        }
        let mut group = Group::default();
        for (at, key) in due {
            group.batch.delete_cf(self.inner.family(EXPIRY)?, &at);
            if let Some(known) = self.known(&group, &key)?
                && !self.is_alive(&known)
            {
                self.free(&mut group, &known)?;
                group.batch.delete_cf(self.inner.family(ENTRIES)?, &key);
                group.overlay.insert(key, None);
            }
        }
        self.commit(group);
        Ok(())
    }
}

/// Waits for a message. Once the storage closes, what was sent before is still done.
fn next(receiver: &mut mpsc::Receiver<Message>, closing: &CancellationToken) -> Option<Message> {
    futures::executor::block_on(async {
        tokio::select! {
            biased;
            message = receiver.recv() => message,
            () = closing.cancelled() => {
                receiver.close();
                receiver.recv().await
            }
        }
    })
}

fn sum(known: Option<&Known>, delta: i64) -> Result<i64, StoreError> {
    let before = match known {
        None => 0,
        Some(Known { number: Some(bytes), .. }) => i64::from_le_bytes(*bytes),
        Some(_) => {
            return Err(StoreError::Invalid(
                "the value is not a number of eight bytes, so nothing can be added to it"
                    .to_owned(),
            ));
        }
    };
    before
        .checked_add(delta)
        .ok_or_else(|| StoreError::Invalid("the sum is beyond what 64 bits hold".to_owned()))
}
