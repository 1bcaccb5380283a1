//! How the database fares, in numbers.
//!
//! Owns which of RocksDB's properties an operator gets to see. All of them are at hand in memory.

use super::{CHUNKS, ENTRIES, EXPIRY, Inner, LOOSE, META, ROOMS};
use crate::storage::Figure;

/// Of each column family, and added up.
const OF_FAMILIES: [(&str, &str, &str); 4] = [
    ("store_keys", "estimate-num-keys", "Keys in the database, as it estimates them."),
    ("store_disk_bytes", "total-sst-files-size", "Bytes of its files on disk, the log left out."),
    ("store_memtable_bytes", "cur-size-all-mem-tables", "Bytes that are in memory and in its log."),
    (
        "store_compaction_bytes",
        "estimate-pending-compaction-bytes",
        "Bytes that it still has to rewrite, as it estimates them.",
    ),
];
/// Of the database as a whole.
const OF_ALL: [(&str, &str, &str); 3] = [
    ("store_cache_bytes", "block-cache-usage", "Bytes of blocks that it keeps in memory."),
    ("store_write_stopped", "is-write-stopped", "1 while it takes no writes."),
    ("store_background_errors", "background-errors", "Errors of its work in the background."),
];

impl Inner {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let value = |family: &str, property: &str| {
            let family = self.family(family).ok()?;
            let property = format!("rocksdb.{property}");
            self.db.property_int_value_cf(family, &property).ok().flatten()
        };
        let families = [ENTRIES, CHUNKS, LOOSE, EXPIRY, META, ROOMS];
        let added = OF_FAMILIES.map(|(name, property, help)| {
            let values = families.iter().filter_map(|family| value(family, property));
            Figure { name, help, value: values.sum() }
        });
        let whole = OF_ALL.map(|(name, property, help)| Figure {
            name,
            help,
            value: value(ENTRIES, property).unwrap_or(0),
        });
        added.into_iter().chain(whole).collect()
    }
}
