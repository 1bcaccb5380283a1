//! `wasi:keyvalue`, both drafts, on the same storage and the same grants as `guesthouse:kv`.
//!
//! The drafts differ in their cursors, in the sign of `increment`, and in that the second has
//! compare-and-swap. An empty identifier opens the plugin's own namespace, `default`.

use super::kv::{HasKv, KvView};
use crate::storage::{
    Condition, Effect, Entry, ListOptions, Operation, Page, PutOptions, Store, StoreError,
};
use bytes::Bytes;
use guesthouse_bindings::handles::{Cas, Namespace};
use guesthouse_bindings::wasi::{keyvalue0_2_0_draft as draft, keyvalue0_2_0_draft2 as draft2};
use std::sync::Arc;
use wasmtime::Result;
use wasmtime::component::{Linker, Resource};

pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KvView<'_>,
) -> Result<()> {
    draft::store::add_to_linker::<T, HasKv>(linker, view)?;
    draft::atomics::add_to_linker::<T, HasKv>(linker, view)?;
    draft::batch::add_to_linker::<T, HasKv>(linker, view)?;
    draft2::store::add_to_linker::<T, HasKv>(linker, view)?;
    draft2::atomics::add_to_linker::<T, HasKv>(linker, view)?;
    draft2::batch::add_to_linker::<T, HasKv>(linker, view)
}

/// What a guest may know of an error.
fn words(error: StoreError) -> String {
    match error {
        StoreError::Invalid(text) | StoreError::TooLarge(text) => text,
        StoreError::Conflict(_) => "the value has changed".to_owned(),
        StoreError::Unavailable(text) => {
            tracing::error!("the storage failed: {text}");
            "the storage is not available".to_owned()
        }
    }
}

impl KvView<'_> {
    fn open_bucket(&mut self, identifier: &str) -> Result<Option<Resource<Namespace>>> {
        let name = if identifier.is_empty() { "default" } else { identifier };
        self.grants.find(name).map(|found| Ok(self.table.push(found)?)).transpose()
    }
}

/// The operations as both drafts have them.
struct Operations<'a>(&'a Arc<dyn Store>);

impl Operations<'_> {
    async fn read(&self, name: &Arc<str>, key: &str) -> std::result::Result<Option<Entry>, String> {
        self.0.get(name, key).resolve().await.map_err(words)
    }

    async fn change(
        &self,
        name: &Arc<str>,
        operations: Vec<Operation>,
    ) -> std::result::Result<Vec<Effect>, String> {
        self.0.write(name, operations).await.map_err(words)
    }

    async fn add(
        &self,
        name: &Arc<str>,
        key: String,
        delta: i64,
    ) -> std::result::Result<i64, String> {
        let effects = self.change(name, vec![Operation::Increment { key, delta }]).await?;
        match effects.first() {
            Some(Effect::Counted { value }) => Ok(*value),
            _ => Err("the storage is not available".to_owned()),
        }
    }

    async fn page(
        &self,
        name: &Arc<str>,
        cursor: Option<String>,
    ) -> std::result::Result<Page, String> {
        let options = ListOptions { cursor, ..ListOptions::default() };
        self.0.list(name, options).resolve().await.map_err(words)
    }

    /// A page by the number of keys before it, for the draft whose cursor is a number. The number is not
    /// stable while keys come and go, which the draft allows.
    async fn numbered_page(
        &self,
        name: &Arc<str>,
        skip: u64,
    ) -> std::result::Result<(Vec<String>, Option<u64>), String> {
        let mut cursor = None;
        let mut before: u64 = 0;
        loop {
            let page = self.page(name, cursor).await?;
            let count = page.keys.len() as u64;
            let end = before.saturating_add(count);
            if end > skip || page.cursor.is_none() {
                let first = usize::try_from(skip.saturating_sub(before)).unwrap_or(usize::MAX);
                let keys = page.keys.into_iter().skip(first).map(|(key, _)| key).collect();
                return Ok((keys, page.cursor.map(|_| end)));
            }
            before = end;
            cursor = page.cursor;
        }
    }

    async fn read_many(
        &self,
        name: &Arc<str>,
        keys: Vec<String>,
    ) -> std::result::Result<Vec<(String, Option<Vec<u8>>)>, String> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.read(name, &key).await?.map(|entry| entry.value.to_vec());
            found.push((key, value));
        }
        Ok(found)
    }

    async fn cas(&self, name: Arc<str>, key: String) -> std::result::Result<Cas, String> {
        let found = self.read(&name, &key).await?;
        let (version, value) = found.map(|entry| (entry.info.version, entry.value)).unzip();
        Ok(Cas { namespace: name, key, version, value })
    }
}

fn put(key: String, value: Vec<u8>) -> Operation {
    Operation::Put { key, value: value.into(), options: PutOptions::default() }
}

fn delete(key: String) -> Operation {
    Operation::Delete { key, condition: Condition::None }
}

macro_rules! store_and_batch {
    ($draft:ident, $cursor:ty, $page:ident, $many:ty, $to_many:expr) => {
        impl $draft::store::Host for KvView<'_> {
            async fn open(
                &mut self,
                identifier: String,
            ) -> Result<std::result::Result<Resource<Namespace>, $draft::store::Error>> {
                Ok(self.open_bucket(&identifier)?.ok_or($draft::store::Error::AccessDenied))
            }
        }

        impl $draft::store::HostBucket for KvView<'_> {
            async fn get(
                &mut self,
                bucket: Resource<Namespace>,
                key: String,
            ) -> Result<std::result::Result<Option<Vec<u8>>, $draft::store::Error>> {
                let name = self.name(&bucket)?;
                let found = Operations(self.store).read(&name, &key).await;
                Ok(found
                    .map(|found| found.map(|entry| entry.value.to_vec()))
                    .map_err($draft::store::Error::Other))
            }

            async fn set(
                &mut self,
                bucket: Resource<Namespace>,
                key: String,
                value: Vec<u8>,
            ) -> Result<std::result::Result<(), $draft::store::Error>> {
                let name = self.name(&bucket)?;
                let done = Operations(self.store).change(&name, vec![put(key, value)]).await;
                Ok(done.map(drop).map_err($draft::store::Error::Other))
            }

            async fn delete(
                &mut self,
                bucket: Resource<Namespace>,
                key: String,
            ) -> Result<std::result::Result<(), $draft::store::Error>> {
                let name = self.name(&bucket)?;
                let done = Operations(self.store).change(&name, vec![delete(key)]).await;
                Ok(done.map(drop).map_err($draft::store::Error::Other))
            }

            async fn exists(
                &mut self,
                bucket: Resource<Namespace>,
                key: String,
            ) -> Result<std::result::Result<bool, $draft::store::Error>> {
                let name = self.name(&bucket)?;
                let found = self.store.stat(&name, &key).resolve().await;
                Ok(found
                    .map(|found| found.is_some())
                    .map_err(|error| $draft::store::Error::Other(words(error))))
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<Namespace>,
                cursor: Option<$cursor>,
            ) -> Result<std::result::Result<$draft::store::KeyResponse, $draft::store::Error>> {
                let name = self.name(&bucket)?;
                Ok($page(Operations(self.store), &name, cursor)
                    .await
                    .map(|(keys, cursor)| $draft::store::KeyResponse { keys, cursor })
                    .map_err($draft::store::Error::Other))
            }

            async fn drop(&mut self, bucket: Resource<Namespace>) -> Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl $draft::batch::Host for KvView<'_> {
            async fn get_many(
                &mut self,
                bucket: Resource<Namespace>,
                keys: Vec<String>,
            ) -> Result<std::result::Result<Vec<$many>, $draft::store::Error>> {
                let name = self.name(&bucket)?;
                let found = Operations(self.store).read_many(&name, keys).await;
                Ok(found
                    .map(|found| found.into_iter().map($to_many).collect())
                    .map_err($draft::store::Error::Other))
            }

            async fn set_many(
                &mut self,
                bucket: Resource<Namespace>,
                values: Vec<(String, Vec<u8>)>,
            ) -> Result<std::result::Result<(), $draft::store::Error>> {
                let name = self.name(&bucket)?;
                for (key, value) in values {
                    if let Err(error) =
                        Operations(self.store).change(&name, vec![put(key, value)]).await
                    {
                        return Ok(Err($draft::store::Error::Other(error)));
                    }
                }
                Ok(Ok(()))
            }

            async fn delete_many(
                &mut self,
                bucket: Resource<Namespace>,
                keys: Vec<String>,
            ) -> Result<std::result::Result<(), $draft::store::Error>> {
                let name = self.name(&bucket)?;
                for key in keys {
                    if let Err(error) =
                        Operations(self.store).change(&name, vec![delete(key)]).await
                    {
                        return Ok(Err($draft::store::Error::Other(error)));
                    }
                }
                Ok(Ok(()))
            }
        }
    };
}

async fn numbered(
    operations: Operations<'_>,
    name: &Arc<str>,
    cursor: Option<u64>,
) -> std::result::Result<(Vec<String>, Option<u64>), String> {
    operations.numbered_page(name, cursor.unwrap_or(0)).await
}

async fn textual(
    operations: Operations<'_>,
    name: &Arc<str>,
    cursor: Option<String>,
) -> std::result::Result<(Vec<String>, Option<String>), String> {
    let page = operations.page(name, cursor).await?;
    Ok((page.keys.into_iter().map(|(key, _)| key).collect(), page.cursor))
}

// What `get-many` gives for a key: the drafts differ in where the option is.
store_and_batch!(draft, u64, numbered, Option<(String, Vec<u8>)>, |(key, value)| value
    .map(|value| (key, value)));
store_and_batch!(draft2, String, textual, (String, Option<Vec<u8>>), |pair| pair);

impl draft::atomics::Host for KvView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        delta: u64,
    ) -> Result<std::result::Result<u64, draft::store::Error>> {
        let name = self.name(&bucket)?;
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(draft::store::Error::Other("the delta is too large".to_owned())));
        };
        Ok(Operations(self.store)
            .add(&name, key, delta)
            .await
            .and_then(|sum| u64::try_from(sum).map_err(|_| "the number is negative".to_owned()))
            .map_err(draft::store::Error::Other))
    }
}

impl draft2::atomics::Host for KvView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        delta: i64,
    ) -> Result<std::result::Result<i64, draft2::store::Error>> {
        let name = self.name(&bucket)?;
        Ok(Operations(self.store).add(&name, key, delta).await.map_err(draft2::store::Error::Other))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> Result<std::result::Result<(), draft2::atomics::CasError>> {
        use draft2::atomics::CasError;
        let other = |text| CasError::StoreError(draft2::store::Error::Other(text));
        let cas = self.table.delete(cas)?;
        let condition = cas.version.map_or(Condition::Absent, Condition::Version);
        let options = PutOptions { condition, ..PutOptions::default() };
        let operation = Operation::Put { key: cas.key.clone(), value: Bytes::from(value), options };
        match self.store.write(&cas.namespace, vec![operation]).await {
            Ok(_) => Ok(Ok(())),
            Err(StoreError::Conflict(_)) => {
                match Operations(self.store).cas(cas.namespace, cas.key).await {
                    Ok(cas) => Ok(Err(CasError::CasFailed(self.table.push(cas)?))),
                    Err(text) => Ok(Err(other(text))),
                }
            }
            Err(error) => Ok(Err(other(words(error)))),
        }
    }
}

impl draft2::atomics::HostCas for KvView<'_> {
    async fn new(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
    ) -> Result<std::result::Result<Resource<Cas>, draft2::store::Error>> {
        let name = self.name(&bucket)?;
        match Operations(self.store).cas(name, key).await {
            Ok(cas) => Ok(Ok(self.table.push(cas)?)),
            Err(text) => Ok(Err(draft2::store::Error::Other(text))),
        }
    }

    async fn current(
        &mut self,
        cas: Resource<Cas>,
    ) -> Result<std::result::Result<Option<Vec<u8>>, draft2::store::Error>> {
        Ok(Ok(self.table.get(&cas)?.value.as_ref().map(|value| value.to_vec())))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
