//! Results that were made before.
//!
//! A fixed number of places: a result lies in the one that its key says, and takes it from whatever was there.
//! So the space is bounded without anyone who counts or cleans up, and what is asked for often comes back soon.

use crate::options::Options;
use crate::pipeline::Output;
use guesthouse_sdk::config;
use guesthouse_sdk::kv::{self, Bucket, Condition, Expiry, PutOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Places.
const PLACES: u32 = 4096;
/// How long a result is kept: a week.
const KEPT_S: u64 = 7 * 86_400;
/// Bytes of a source whose result is cheaper to keep than to make again: a write waits for the disk.
pub(crate) const FROM: usize = 8 << 10;
/// Changes with what the same source and options give.
const EDITION: &str = concat!(env!("CARGO_PKG_VERSION"), "/oxc-0.146.0/2");

/// What stands for a source and its options.
pub(crate) fn key(source: &str, options: &Options) -> String {
    let mut hash = Sha256::new();
    hash.update(EDITION);
    hash.update([0]);
    hash.update(format!("{options:?}"));
    hash.update([0]);
    if options.import_map {
        hash.update(config::get("import_map").unwrap_or_default());
    }
    hash.update([0]);
    hash.update(source);
    hex::encode(hash.finalize())
}

/// What tells apart results that are not kept. Nobody's answer is looked up by it, so whoever makes two sources with the
/// same one deceives only himself; hence no cryptographic hash, which takes several times as long.
pub(crate) fn tag(source: &str, options: &Options) -> String {
    let mut hash = DefaultHasher::new();
    (EDITION, options, source).hash(&mut hash);
    if options.import_map {
        config::get("import_map").hash(&mut hash);
    }
    format!("{:016x}", hash.finish())
}

pub(crate) struct Results(Bucket);

impl Results {
    /// None: results of such sources are not kept.
    pub(crate) fn open(size: usize) -> Option<Self> {
        let settings = crate::settings();
        let namespace = settings.cache.as_str();
        if namespace.is_empty() || size < settings.cache_from {
            return None;
        }
        match kv::open(namespace) {
            Ok(bucket) => Some(Self(bucket)),
            Err(error) => {
                eprintln!(
                    "results are not kept: the namespace `{namespace}` can't be opened: {error:?}"
                );
                None
            }
        }
    }

    fn place(key: &str) -> String {
        let number = u32::from_str_radix(key.get(..8).unwrap_or_default(), 16).unwrap_or(0);
        format!("result/{:04}", number % PLACES)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Output> {
        let entry = self.0.get(&Self::place(key)).ok()??;
        let value: Value = serde_json::from_slice(&entry.value).ok()?;
        if value.get("key")?.as_str()? != key {
            return None;
        }
        let map = value.get("map").and_then(Value::as_str).map(str::to_owned);
        Some(Output { code: value.get("code")?.as_str()?.to_owned(), map })
    }

    pub(crate) fn put(&self, key: &str, output: &Output) {
        let value = json!({ "key": key, "code": output.code, "map": output.map }).to_string();
        let options = PutOptions {
            metadata: Vec::new(),
            expires: Expiry::TtlSeconds(KEPT_S),
            condition: Condition::None,
        };
        if let Err(error) = self.0.put(&Self::place(key), value.as_bytes(), &options) {
            // The caller has the result; only the next one has to wait again.
            eprintln!("a result could not be kept: {error:?}");
        }
    }
}
