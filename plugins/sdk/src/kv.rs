//! Durable data (`guesthouse:kv`): see `wit/kv.wit`, which is its manual.

pub use crate::bindings::guesthouse::kv::store::{
    Bucket, Condition, Entry, Error, Expiry, Info, ListOptions, Operation, Page, PutOptions, Streamed,
    open,
};
