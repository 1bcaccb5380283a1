//! What the house remembers of versions and of the active deployment.
//!
//! Owns a namespace of the storage that neither a plugin nor the operator's `kv` can name. A deployment is
//! one atomic write: the records of its new versions, the pointer, and the removal of what is too old. The
//! danger that shaped it: a crash between two of those.

use crate::storage::{
    Condition, Expiry, HOUSE, ListOptions, Operation, PutOptions, Store, StoreError,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Versions of one plugin that are kept.
pub const KEPT: usize = 100;

/// The key of the pointer.
const POINTER: &str = "deployment";
/// What the keys of versions begin with.
const VERSIONS: &str = "version/";

/// A version as it is kept: everything that makes it, but for the component's bytes and the texts of secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The plugin.
    pub plugin: String,
    /// From 1, and never used again for the plugin.
    pub number: u64,
    /// SHA-256 of the component.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// When it was deployed first: milliseconds since 1970.
    pub created: u64,
    /// Its table of the configuration, without `component` and `digest`.
    pub table: Map<String, Value>,
}

/// What is active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// From 1; each switch makes the next.
    pub sequence: u64,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// Plugins and the number of the version that serves.
    pub plugins: BTreeMap<String, u64>,
    /// Versions that serve a share of the callers beside those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub canaries: BTreeMap<String, Share>,
    /// Of each plugin the last canary that was taken back by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rolled_back: BTreeMap<String, RolledBack>,
}

/// A canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The number of its version.
    pub version: u64,
    /// Of a hundred callers so many get it.
    pub percent: u8,
    /// Since when: milliseconds since 1970.
    pub since: u64,
}

/// A canary that was taken back by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The number of its version.
    pub version: u64,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// What was too much.
    pub reason: String,
}

/// The namespace.
#[derive(Clone)]
pub(super) struct Records {
    store: Arc<dyn Store>,
}

fn version_key(plugin: &str, number: u64) -> String {
    // Twenty digits, so that the order of keys is the order of numbers.
    format!("{VERSIONS}{plugin}/{number:020}")
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn damaged(key: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Unavailable(format!("the record `{key}` of the house is damaged: {error}"))
}

fn put(key: String, value: &impl Serialize) -> Result<Operation, StoreError> {
    let value = serde_json::to_vec(value).map_err(|error| damaged(&key, &error))?;
    let options =
        PutOptions { metadata: Bytes::new(), expires: Expiry::Never, condition: Condition::None };
    Ok(Operation::Put { key, value: value.into(), options })
}

impl Records {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some(entry) = self.store.get(HOUSE, key).resolve().await? else { return Ok(None) };
        serde_json::from_slice(&entry.value).map(Some).map_err(|error| damaged(key, &error))
    }

    /// What is active; none before the first deployment.
    pub(super) async fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        self.read(POINTER).await
    }

    /// One version.
    pub(super) async fn version(
        &self,
        plugin: &str,
        number: u64,
    ) -> Result<Option<Record>, StoreError> {
        self.read(&version_key(plugin, number)).await
    }

    /// The versions of a plugin, or with an empty name of all plugins; the oldest first.
    pub(super) async fn versions(&self, plugin: &str) -> Result<Vec<Record>, StoreError> {
        let prefix = match plugin {
            "" => VERSIONS.to_owned(),
            plugin => format!("{VERSIONS}{plugin}/"),
        };
        let mut records = Vec::new();
        let mut cursor = None;
        loop {
            let options = ListOptions { prefix: prefix.clone(), limit: 0, cursor };
            let page = self.store.list(HOUSE, options).resolve().await?;
            for (key, _) in page.keys {
                records.extend(self.read::<Record>(&key).await?);
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(records);
            }
        }
    }

    /// Makes a deployment the active one: afterwards it is, whatever happens to the process or the power.
    /// `new` are versions that were not kept before.
    ///
    /// # Errors
    /// The storage failed, and the old deployment is still the active one.
    pub(super) async fn commit(&self, pointer: &Pointer, new: &[Record]) -> Result<(), StoreError> {
        let mut operations = vec![put(POINTER.to_owned(), pointer)?];
        for record in new {
            operations.push(put(version_key(&record.plugin, record.number), record)?);
        }
        let plugins: BTreeSet<&str> = new.iter().map(|record| record.plugin.as_str()).collect();
        for plugin in plugins {
            let kept = self.versions(plugin).await?;
            let total = kept.len() + new.iter().filter(|record| record.plugin == plugin).count();
            let active = pointer.plugins.get(plugin).copied();
            let canary = pointer.canaries.get(plugin).map(|share| share.version);
            let serves =
                |record: &&Record| Some(record.number) == active || Some(record.number) == canary;
            let old = kept.iter().filter(|record| !serves(record));
            for record in old.take(total.saturating_sub(KEPT)) {
                operations.push(Operation::Delete {
                    key: version_key(plugin, record.number),
                    condition: Condition::None,
                });
            }
        }
        self.store.write(HOUSE, operations).await.map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::storage::Limits;
    use crate::storage::rocks::Rocks;

    fn record(number: u64) -> Record {
        Record {
            plugin: "a".to_owned(),
            number,
            digest: "d".to_owned(),
            size: 1,
            created: 1,
            table: Map::new(),
        }
    }

    fn pointer(sequence: u64, active: u64) -> Pointer {
        let plugins = BTreeMap::from([("a".to_owned(), active)]);
        Pointer { sequence, at: 1, plugins, ..Pointer::default() }
    }

    #[tokio::test]
    async fn the_last_hundred_versions_are_kept_and_the_active_one_however_old_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Rocks::open(folder.path(), Limits::default(), Durability::Process, 1 << 20).unwrap();
        let records = Records::new(store);
        assert_eq!(records.pointer().await.unwrap(), None);
        for number in 1..=KEPT as u64 + 5 {
            // The second stays the active one, as after a rollback.
            records.commit(&pointer(number, 2), &[record(number)]).await.unwrap();
        }
        let kept: Vec<u64> =
            records.versions("a").await.unwrap().iter().map(|record| record.number).collect();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.first(), Some(&2));
        assert_eq!(kept.get(1), Some(&7), "the oldest but the active one are gone");
        assert_eq!(kept.last(), Some(&(KEPT as u64 + 5)));
        assert_eq!(records.pointer().await.unwrap().unwrap().plugins.get("a"), Some(&2));
        assert_eq!(records.version("a", 3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_canary_is_kept_however_old_it_is_and_what_was_written_without_one_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Rocks::open(folder.path(), Limits::default(), Durability::Process, 1 << 20).unwrap();
        let records = Records::new(store);
        let share = Share { version: 2, percent: 10, since: 1 };
        for number in 1..=KEPT as u64 + 5 {
            let canaries = BTreeMap::from([("a".to_owned(), share.clone())]);
            let pointer = Pointer { canaries, ..pointer(number, 1) };
            records.commit(&pointer, &[record(number)]).await.unwrap();
        }
        let kept = records.versions("a").await.unwrap();
        assert_eq!(kept.iter().map(|record| record.number).take(3).collect::<Vec<_>>(), [1, 2, 8]);
        assert_eq!(records.pointer().await.unwrap().unwrap().canaries.get("a"), Some(&share));
        let old = r#"{"sequence":1,"at":1,"plugins":{"a":1}}"#;
        assert_eq!(serde_json::from_str::<Pointer>(old).unwrap(), pointer(1, 1));
    }
}
