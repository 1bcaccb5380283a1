//! The storage engine on RocksDB.
//!
//! Owns one database in the data folder. Reads that memory can answer are answered on the caller's
//! thread; the rest goes to the blocking pool. All writes go through one thread (`writer`), which is what
//! makes conditions and versions simple and lets one `fsync` serve many. The dangers that shaped it: a
//! condition checked against a state that is gone by the time of the write, and a large value that is
//! replaced while it is being read.

mod chunks;
mod figures;
mod format;
mod rooms;
mod writer;

use super::{
    Answer, Effect, Entry, Figure, Info, Limits, ListOptions, Operation, Page, PutOptions, Store,
    StoreError, ValueStream,
};
use crate::config::Durability;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chunks::{INLINE, Readers};
use format::{ChunkId, Place, Record, entry_key};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    ErrorKind, Options, ReadOptions, ReadTier,
};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use writer::{Put, Step, Thread, Writer};

const ENTRIES: &str = "entries";
const CHUNKS: &str = "chunks";
/// Ids of chunks that belong to no entry (yet, or any more): removed at the next start if a crash came
/// between.
const LOOSE: &str = "loose";
/// Large values by the time of their expiry.
const EXPIRY: &str = "expiry";
const META: &str = "meta";
/// Everything of the rooms; `rooms` owns what is in it.
const ROOMS: &str = "rooms";

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The engine.
pub struct Rocks {
    writer: Writer,
    /// Ends before `inner` goes, which closes the database unless a reader still has it.
    _thread: Thread,
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    limits: Limits,
    clock: Clock,
    readers: Readers,
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        Self::Unavailable(error.into_string())
    }
}

impl Rocks {
    /// Opens the database, and creates it if need be.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with a sentence for the operator: the folder is not writable, the disk
    /// is full, or another process has the database open.
    pub fn open(
        path: &Path,
        limits: Limits,
        durability: Durability,
        block_cache: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
        };
        Self::open_with_clock(path, limits, durability, block_cache, Arc::new(clock))
    }

    /// The same with a clock of one's own, for tests of expiry.
    ///
    /// # Errors
    /// As [`Rocks::open`].
    pub fn open_with_clock(
        path: &Path,
        limits: Limits,
        durability: Durability,
        block_cache: u64,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let db = open(path, block_cache, &clock).map_err(|error| explain(path, &error))?;
        let inner = Arc::new(Inner { db, limits, clock, readers: Readers::default() });
        inner.remove_loose_chunks()?;
        let (writer, thread) = Writer::start(inner.clone(), durability)?;
        Ok(Arc::new(Self { writer, _thread: thread, inner }))
    }
}

fn open(path: &Path, block_cache: u64, clock: &Clock) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_keep_log_file_num(3);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    // What was acknowledged with an fsync is whole; only the torn end of the log is dropped.
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
    let cache = Cache::new_lru_cache(usize::try_from(block_cache).unwrap_or(usize::MAX));
    let family = |name: &str| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(32 << 20);
        if name == ENTRIES {
            let clock = clock.clone();
            options.set_compaction_filter("expired", move |_, _, value| {
                match Record::parse(value) {
                    // A large value goes with its chunks, by way of the list of expiries.
                    Ok(record)
                        if record.is_expired(clock())
                            && matches!(record.value, Place::Inline(_)) =>
                    {
                        rocksdb::CompactionDecision::Remove
                    }
                    _ => rocksdb::CompactionDecision::Keep,
                }
            });
        }
        ColumnFamilyDescriptor::new(name, options)
    };
    let families = [ENTRIES, CHUNKS, LOOSE, EXPIRY, META, ROOMS].map(family);
    DB::open_cf_descriptors(&options, path, families)
}

/// The database's error as a sentence that says what to do.
fn explain(path: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.as_ref();
    let advice = if text.contains("lock") || text.contains("LOCK") {
        "another process has it open: is a house running on this data folder?"
    } else if text.contains("No space") {
        "the disk is full"
    } else if text.contains("Permission denied") || text.contains("Read-only") {
        "the data folder can't be written to: choose another with --data"
    } else {
        "see the reason"
    };
    StoreError::Unavailable(format!("{} can't be opened: {advice} ({text})", path.display()))
}

impl Inner {
    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| StoreError::Unavailable(format!("the column family {name} is missing")))
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Reads an entry and lets `then` look at it in place. None from memory alone means that the disk
    /// must be asked.
    fn look<T>(
        &self,
        key: &[u8],
        from_disk: bool,
        then: impl FnOnce(Record<'_>) -> T,
    ) -> Option<Result<Option<T>, StoreError>> {
        let mut options = ReadOptions::default();
        if !from_disk {
            options.set_read_tier(ReadTier::BlockCache);
        }
        let found = self.family(ENTRIES).and_then(|family| {
            match self.db.get_pinned_cf_opt(family, key, &options) {
                Err(error) if !from_disk && error.kind() == ErrorKind::Incomplete => Ok(None),
                Err(error) => Err(error.into()),
                Ok(found) => Ok(Some(found)),
            }
        });
        match found {
            Err(error) => Some(Err(error)),
            Ok(None) => None,
            Ok(Some(None)) => Some(Ok(None)),
            Ok(Some(Some(bytes))) => Some(Record::parse(&bytes).map(|record| {
                if record.is_expired(self.now()) { None } else { Some(then(record)) }
            })),
        }
    }

    /// From memory at once, else from disk on the blocking pool.
    fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        namespace: &str,
        key: &str,
        then: fn(Record<'_>) -> T,
    ) -> Answer<Option<T>> {
        let key = entry_key(namespace, key);
        if let Some(found) = self.look(&key, false, then) {
            return Answer::Ready(found);
        }
        let inner = self.clone();
        later(move || inner.look(&key, true, then).unwrap_or(Ok(None)))
    }

    fn list(&self, namespace: &str, options: &ListOptions) -> Result<Page, StoreError> {
        let limit = match options.limit {
            0 => self.limits.list,
            limit if limit <= self.limits.list => limit,
            limit => {
                return Err(StoreError::Invalid(format!(
                    "a page has at most {} keys (storage.max_list), not {limit}",
                    self.limits.list
                )));
            }
        };
        let after = options
            .cursor
            .as_deref()
            .map(|cursor| {
                let invalid =
                    || StoreError::Invalid("the cursor is not one of this store".to_owned());
                let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
                String::from_utf8(bytes).map_err(|_| invalid())
            })
            .transpose()?;
        let prefix = entry_key(namespace, &options.prefix);
        let start = match &after {
            // The smallest key that is larger than the last one.
            Some(after) => {
                let mut start = entry_key(namespace, after);
                start.push(0);
                start.max(prefix.clone())
            }
            None => prefix.clone(),
        };
        let now = self.now();
        let skip = namespace.len() + 1;
        let mut page = Page::default();
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(ENTRIES)?, ReadOptions::default());
        cursor.seek(&start);
        while let Some((key, value)) = cursor.item() {
            if !key.starts_with(&prefix) {
                break;
            }
            let record = Record::parse(value)?;
            if !record.is_expired(now) {
                if page.keys.len() >= limit as usize {
                    page.cursor = page.keys.last().map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
                    break;
                }
                let key = String::from_utf8_lossy(key.get(skip..).unwrap_or_default()).into_owned();
                page.keys.push((key, record.info()));
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(page)
    }

    fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(ENTRIES)?, ReadOptions::default());
        cursor.seek_to_first();
        while let Some(key) = cursor.key() {
            let name = key.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            names.push(String::from_utf8_lossy(&name).into_owned());
            // Beyond the last key of this namespace.
            let mut next = name;
            next.push(1);
            cursor.seek(&next);
        }
        cursor.status()?;
        Ok(names)
    }
}

fn later<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Answer<T> {
    Answer::Later(Box::pin(async move {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }))
}

/// A value as it was found: whole, or where its chunks are.
enum Held {
    Whole(Entry),
    Chunked(ChunkId, Info),
}

fn hold(record: Record<'_>) -> Held {
    match record.value {
        Place::Inline(value) => {
            Held::Whole(Entry { value: Bytes::copy_from_slice(value), info: record.info() })
        }
        Place::Chunks { id, .. } => Held::Chunked(id, record.info()),
    }
}

impl Store for Rocks {
    fn get(&self, namespace: &str, key: &str) -> Answer<Option<Entry>> {
        match self.inner.answer(namespace, key, hold) {
            Answer::Ready(Ok(Some(Held::Whole(entry)))) => Answer::Ready(Ok(Some(entry))),
            Answer::Ready(Ok(None)) => Answer::Ready(Ok(None)),
            Answer::Ready(Err(error)) => Answer::Ready(Err(error)),
            // From the disk, or large: put together elsewhere.
            found => {
                drop(found);
                let whole = self.stream(namespace, key, 0, None);
                Answer::Later(Box::pin(async move {
                    let Some(mut stream) = whole.resolve().await? else { return Ok(None) };
                    let size = usize::try_from(stream.info.size).unwrap_or(0);
                    let mut value = Vec::with_capacity(size);
                    while let Some(chunk) = stream.body.next().await {
                        value.extend_from_slice(&chunk?);
                    }
                    Ok(Some(Entry { value: value.into(), info: stream.info }))
                }))
            }
        }
    }

    fn stat(&self, namespace: &str, key: &str) -> Answer<Option<Info>> {
        self.inner.answer(namespace, key, |record| record.info())
    }

    fn stream(
        &self,
        namespace: &str,
        key: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Answer<Option<ValueStream>> {
        match self.inner.answer(namespace, key, hold) {
            Answer::Ready(Ok(Some(Held::Whole(entry)))) => {
                Answer::Ready(Ok(Some(chunks::whole(entry, offset, length))))
            }
            Answer::Ready(Ok(None)) => Answer::Ready(Ok(None)),
            Answer::Ready(Err(error)) => Answer::Ready(Err(error)),
            found => {
                drop(found);
                let inner = self.inner.clone();
                let (writer, key) = (self.writer.clone(), entry_key(namespace, key));
                later(move || chunks::open(&inner, writer, &key, offset, length))
            }
        }
    }

    fn list(&self, namespace: &str, options: ListOptions) -> Answer<Page> {
        let inner = self.inner.clone();
        let namespace = namespace.to_owned();
        later(move || inner.list(&namespace, &options))
    }

    fn write(
        &self,
        namespace: &str,
        operations: Vec<Operation>,
    ) -> BoxFuture<'static, Result<Vec<Effect>, StoreError>> {
        let inner = self.inner.clone();
        let writer = self.writer.clone();
        let namespace = namespace.to_owned();
        Box::pin(async move {
            let steps = prepare(&inner, &namespace, operations).await?;
            writer.submit(steps).await
        })
    }

    fn put_stream(
        &self,
        namespace: &str,
        key: &str,
        body: BoxStream<'static, Result<Bytes, StoreError>>,
        options: PutOptions,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        let inner = self.inner.clone();
        let writer = self.writer.clone();
        let checked = check_key(&inner.limits, key).and_then(|()| check_options(&inner, &options));
        let key = entry_key(namespace, key);
        Box::pin(async move {
            checked?;
            let value = chunks::receive(&inner, body).await?;
            let expires_at = expires_at(&inner, &options)?;
            let put = Put { metadata: options.metadata, expires_at, value };
            let step = Step::Put { key, put, condition: options.condition };
            match writer.submit(vec![step]).await?.first() {
                Some(Effect::Written { version }) => Ok(*version),
                _ => Err(StoreError::Unavailable("the writer gave no version".to_owned())),
            }
        })
    }

    fn namespaces(&self) -> Answer<Vec<String>> {
        let inner = self.inner.clone();
        later(move || inner.namespaces())
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn figures(&self) -> Vec<Figure> {
        self.inner.figures()
    }
}

fn check_key(limits: &Limits, key: &str) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::Invalid("a key can't be empty".to_owned())),
        length if length > limits.key => Err(StoreError::TooLarge(format!(
            "a key has at most {} bytes, not {length}",
            limits.key
        ))),
        _ => Ok(()),
    }
}

fn check_options(inner: &Inner, options: &PutOptions) -> Result<(), StoreError> {
    let (length, most) = (options.metadata.len(), inner.limits.metadata);
    if length > most {
        return Err(StoreError::TooLarge(format!(
            "metadata has at most {most} bytes, not {length}"
        )));
    }
    expires_at(inner, options).map(drop)
}

fn expires_at(inner: &Inner, options: &PutOptions) -> Result<u64, StoreError> {
    match options.expires {
        super::Expiry::Never => Ok(0),
        super::Expiry::Ttl(0) => {
            Err(StoreError::Invalid("a TTL is at least one second".to_owned()))
        }
        super::Expiry::Ttl(seconds) => {
            Ok(inner.now().saturating_add(seconds.saturating_mul(1000)).max(1))
        }
        super::Expiry::At(at) => Ok(at.max(1)),
    }
}

/// Checks everything that can be checked before the writer, and puts large values into chunks.
async fn prepare(
    inner: &Arc<Inner>,
    namespace: &str,
    operations: Vec<Operation>,
) -> Result<Vec<Step>, StoreError> {
    let limits = &inner.limits;
    if operations.len() > limits.operations {
        return Err(StoreError::TooLarge(format!(
            "an atomic write has at most {} operations, not {}",
            limits.operations,
            operations.len()
        )));
    }
    let mut seen = HashSet::new();
    for operation in &operations {
        let key = match operation {
            Operation::Put { key, value, options } => {
                check_options(inner, options)?;
                if value.len() as u64 > limits.value {
                    return Err(too_large(limits));
                }
                key
            }
            Operation::Delete { key, .. }
            | Operation::Increment { key, .. }
            | Operation::Check { key, .. } => key,
        };
        check_key(limits, key)?;
        if !seen.insert(key.as_str()) {
            return Err(StoreError::Invalid(format!(
                "the key `{key}` stands twice in one atomic write"
            )));
        }
    }
    let mut steps = Vec::with_capacity(operations.len());
    for operation in operations {
        steps.push(match operation {
            Operation::Put { key, value, options } => {
                let value = if value.len() > INLINE {
                    let body = futures::stream::iter([Ok(value)]).boxed();
                    chunks::receive(inner, body).await?
                } else {
                    chunks::Value::Inline(value)
                };
                let expires_at = expires_at(inner, &options)?;
                let put = Put { metadata: options.metadata, expires_at, value };
                Step::Put { key: entry_key(namespace, &key), put, condition: options.condition }
            }
            Operation::Delete { key, condition } => {
                Step::Delete { key: entry_key(namespace, &key), condition }
            }
            Operation::Increment { key, delta } => {
                Step::Increment { key: entry_key(namespace, &key), delta }
            }
            Operation::Check { key, condition } => {
                Step::Check { key: entry_key(namespace, &key), condition }
            }
        });
    }
    Ok(steps)
}

fn too_large(limits: &Limits) -> StoreError {
    StoreError::TooLarge(format!("a value has at most {} bytes (storage.max_value)", limits.value))
}

#[cfg(test)]
mod tests;
