//! Durable data (`guesthouse:kv`): see `wit/kv.wit`, which is its manual.

pub use crate::bindings::guesthouse::kv::store::{
    Bucket, Condition, DeleteOperation, Entry, Error, Expiry, Info, KeyInfo, ListOptions,
    Operation, Page, PutOperation, PutOptions, Streamed, open,
};
