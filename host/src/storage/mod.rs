//! Where data lives: the [`Store`] trait and its engines.
//!
//! Owns the meaning of a write: atomic, durable before it is acknowledged, conditional on versions.
//! It never runs a blocking call on the thread of its caller: what is not at hand in memory is
//! answered [`Answer::Later`]. The danger that shaped it: an acknowledged write that a crash takes back.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub mod rocks;
pub mod rooms;

/// The namespace of the house itself. No configuration can grant it and no call of the admin API can name
/// it: neither takes a name with this character.
pub const HOUSE: &str = "!house";

/// An answer that is at hand, or one that needs the disk.
///
/// A hit in memory must not cost an allocation or a trip through the scheduler, and a miss must not
/// stop the thread that serves everyone else: hence the two cases.
pub enum Answer<T> {
    /// At hand.
    Ready(Result<T, StoreError>),
    /// Comes from another thread.
    Later(BoxFuture<'static, Result<T, StoreError>>),
}

impl<T> Answer<T> {
    /// Waits for the answer if it isn't there.
    pub async fn resolve(self) -> Result<T, StoreError> {
        match self {
            Self::Ready(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }
}

/// Why the storage said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key, cursor or option is malformed.
    #[error("{0}")]
    Invalid(String),
    /// Over a limit; the text names the limit and the knob.
    #[error("{0}")]
    TooLarge(String),
    /// The condition of the operation with this index did not hold. Nothing was written.
    #[error("the condition of operation {0} does not hold")]
    Conflict(u32),
    /// The disk or the engine failed; the text is for the operator, never for a client.
    #[error("storage failed: {0}")]
    Unavailable(String),
}

/// What is known of a key without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes of the value.
    pub size: u64,
    /// At most [`Limits::metadata`] bytes, often none.
    pub metadata: Bytes,
    /// Changes with every write, never 0, never used again.
    pub version: u64,
    /// Milliseconds since 1970 at which the key ceases to exist.
    pub expires_at: Option<u64>,
}

/// A value with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The rest.
    pub info: Info,
}

/// A value as a stream, consistent with the moment at which it was opened.
pub struct ValueStream {
    /// `size` is that of the whole value, whatever range was asked for.
    pub info: Info,
    /// The bytes.
    pub body: BoxStream<'static, Result<Bytes, StoreError>>,
}

/// When a key ceases to exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It stays.
    #[default]
    Never,
    /// Seconds from now, at least 1.
    Ttl(u64),
    /// Milliseconds since 1970.
    At(u64),
}

/// What must hold for an operation to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key does not exist.
    Absent,
    /// The key exists with this version.
    Version(u64),
}

/// What belongs to a write.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Kept beside the value and given back with it.
    pub metadata: Bytes,
    /// When the key ceases to exist.
    pub expires: Expiry,
    /// What must hold.
    pub condition: Condition,
}

/// One step of an atomic write.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The rest.
        options: PutOptions,
    },
    /// Removes a key; removing what isn't there is no error.
    Delete {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
    /// Adds to a number, as `wasi:keyvalue` does: eight bytes, little-endian; a missing key is 0.
    Increment {
        /// The key.
        key: String,
        /// May be negative.
        delta: i64,
    },
    /// Changes nothing, but the whole write fails unless the condition holds.
    Check {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
}

/// What an operation of a successful write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key has this version now.
    Written {
        /// The new version.
        version: u64,
    },
    /// Whether there was something to delete.
    Deleted {
        /// True when the key existed.
        existed: bool,
    },
    /// The number after the addition.
    Counted {
        /// The sum; wraps are refused as [`StoreError::Invalid`].
        value: i64,
    },
    /// A condition held.
    Checked,
}

/// Which keys, and how many.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that begin with this.
    pub prefix: String,
    /// 1 to [`Limits::list`]; 0 means that limit.
    pub limit: u32,
    /// [`Page::cursor`] of the page before.
    pub cursor: Option<String>,
}

/// A page of keys in the order of their bytes.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys and what is known of them.
    pub keys: Vec<(String, Info)>,
    /// Where the next page begins; none when there is no more.
    pub cursor: Option<String>,
}

/// Limits of the storage, from `[storage]` of the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a key: 512.
    pub key: usize,
    /// Bytes of metadata: 1024.
    pub metadata: usize,
    /// Bytes of a value: 25 MiB unless configured.
    pub value: u64,
    /// Keys of one page: 1000 unless configured lower.
    pub list: u32,
    /// Operations of one atomic write: 1000.
    pub operations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { key: 512, metadata: 1024, value: 25 << 20, list: 1000, operations: 1000 }
    }
}

/// A storage engine.
///
/// Namespaces are created by their first write. `namespace` is one of the house's own names, already
/// checked against the plugin's grants; engines take any text of up to 256 bytes without NUL.
pub trait Store: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, namespace: &str, key: &str) -> Answer<Option<Entry>>;

    /// What is known of a key.
    fn stat(&self, namespace: &str, key: &str) -> Answer<Option<Info>>;

    /// The value from byte `offset`, at most `length` bytes, as a stream.
    fn stream(
        &self,
        namespace: &str,
        key: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Answer<Option<ValueStream>>;

    /// A page of keys.
    fn list(&self, namespace: &str, options: ListOptions) -> Answer<Page>;

    /// All operations or none, durable when the future resolves.
    fn write(
        &self,
        namespace: &str,
        operations: Vec<Operation>,
    ) -> BoxFuture<'static, Result<Vec<Effect>, StoreError>>;

    /// Writes what the stream gives; the key changes in one step at its end. An error of the stream
    /// is given back and nothing has changed. The new version is the answer.
    fn put_stream(
        &self,
        namespace: &str,
        key: &str,
        body: BoxStream<'static, Result<Bytes, StoreError>>,
        options: PutOptions,
    ) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// The namespaces that hold at least one key.
    fn namespaces(&self) -> Answer<Vec<String>>;

    /// The limits in force.
    fn limits(&self) -> &Limits;

    /// How the engine fares, for whoever looks; from memory.
    fn figures(&self) -> Vec<Figure>;
}

/// A number that an engine gives of itself.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name, in the words of metrics.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// What it is at the moment.
    pub value: u64,
}
