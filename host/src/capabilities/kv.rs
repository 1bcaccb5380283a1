//! `guesthouse:kv`: durable data for plugins.
//!
//! Owns the translation between the interface and the storage, and the grants. It never lets a name
//! through that is not in the plugin's list, and never tells a guest what the storage said when it failed.

use super::streams::{ValueInput, from_guest};
use crate::storage::{self, Store, StoreError};
use guesthouse_bindings::guesthouse::kv::store as wit;
use guesthouse_bindings::handles::Namespace;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynInputStream;

/// The namespaces of one plugin: the guest's name → the storage's name.
#[derive(Clone, Debug, Default)]
pub struct KvGrants(BTreeMap<String, Arc<str>>);

impl KvGrants {
    /// *Configure*. `default` is the plugin's own namespace, kept under a name that no configuration can
    /// grant to another; any other name is the house's.
    #[must_use]
    pub fn new(plugin: &str, granted: &[String]) -> Self {
        let storage_name = |name: &String| match name.as_str() {
            "default" => format!("~{plugin}").into(),
            name => name.into(),
        };
        Self(granted.iter().map(|name| (name.clone(), storage_name(name))).collect())
    }

    pub(super) fn find(&self, name: &str) -> Option<Namespace> {
        self.0.get(name).map(|name| Namespace { name: name.clone() })
    }
}

/// How an instance sees the storage.
pub struct KvView<'a> {
    /// The instance's handles.
    pub table: &'a mut ResourceTable,
    /// The plugin's grants.
    pub grants: &'a KvGrants,
    /// Where data lives.
    pub store: &'a Arc<dyn Store>,
}

/// Names [`KvView`] for the linker.
pub struct HasKv;

impl HasData for HasKv {
    type Data<'a> = KvView<'a>;
}

/// *Link*: our interface and both drafts of `wasi:keyvalue`.
///
/// # Errors
/// The linker has one of the interfaces already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KvView<'_>,
) -> Result<()> {
    wit::add_to_linker::<T, HasKv>(linker, view)?;
    super::wasi_keyvalue::add_to_linker(linker, view)
}

impl KvView<'_> {
    pub(super) fn name(&self, bucket: &Resource<Namespace>) -> Result<Arc<str>> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    fn push_stream(&mut self, value: storage::ValueStream) -> Result<wit::Streamed> {
        let info = to_info(&value.info);
        let body: DynInputStream = Box::new(ValueInput::new(value));
        Ok(wit::Streamed { body: self.table.push(body)?, info })
    }

    async fn open_stream(
        &mut self,
        bucket: &Resource<Namespace>,
        key: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<std::result::Result<Option<wit::Streamed>, wit::Error>> {
        let name = self.name(bucket)?;
        match self.store.stream(&name, key, offset, length).resolve().await {
            Ok(Some(value)) => Ok(Ok(Some(self.push_stream(value)?))),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(to_error(error))),
        }
    }
}

/// What a guest may know of an error.
fn to_error(error: StoreError) -> wit::Error {
    match error {
        StoreError::Invalid(text) => wit::Error::Invalid(text),
        StoreError::TooLarge(text) => wit::Error::TooLarge(text),
        StoreError::Conflict(index) => wit::Error::Conflict(index),
        StoreError::Unavailable(text) => {
            tracing::error!("the storage failed: {text}");
            wit::Error::Unavailable
        }
    }
}

fn to_info(info: &storage::Info) -> wit::Info {
    wit::Info {
        size: info.size,
        metadata: info.metadata.to_vec(),
        version: info.version,
        expires_at: info.expires_at,
    }
}

fn to_condition(condition: wit::Condition) -> storage::Condition {
    match condition {
        wit::Condition::None => storage::Condition::None,
        wit::Condition::Absent => storage::Condition::Absent,
        wit::Condition::VersionIs(version) => storage::Condition::Version(version),
    }
}

fn to_options(options: wit::PutOptions) -> storage::PutOptions {
    storage::PutOptions {
        metadata: options.metadata.into(),
        expires: match options.expires {
            wit::Expiry::Never => storage::Expiry::Never,
            wit::Expiry::TtlSeconds(seconds) => storage::Expiry::Ttl(seconds),
            wit::Expiry::At(at) => storage::Expiry::At(at),
        },
        condition: to_condition(options.condition),
    }
}

fn to_operation(operation: wit::Operation) -> storage::Operation {
    match operation {
        wit::Operation::Put(put) => storage::Operation::Put {
            key: put.key,
            value: put.value.into(),
            options: to_options(put.options),
        },
        wit::Operation::Delete(delete) => storage::Operation::Delete {
            key: delete.key,
            condition: to_condition(delete.condition),
        },
        wit::Operation::Check(check) => {
            storage::Operation::Check { key: check.key, condition: to_condition(check.condition) }
        }
    }
}

type Answer<T> = Result<std::result::Result<T, wit::Error>>;

impl wit::Host for KvView<'_> {
    fn open(&mut self, namespace: String) -> Answer<Resource<Namespace>> {
        match self.grants.find(&namespace) {
            Some(found) => Ok(Ok(self.table.push(found)?)),
            None => Ok(Err(wit::Error::AccessDenied)),
        }
    }
}

impl wit::HostBucket for KvView<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
    ) -> Answer<Option<wit::Entry>> {
        let name = self.name(&bucket)?;
        let found = self.store.get(&name, &key).resolve().await.map_err(to_error);
        Ok(found.map(|found| {
            found.map(|entry| wit::Entry {
                value: entry.value.to_vec(),
                metadata: entry.info.metadata.to_vec(),
                version: entry.info.version,
                expires_at: entry.info.expires_at,
            })
        }))
    }

    async fn get_stream(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
    ) -> Answer<Option<wit::Streamed>> {
        self.open_stream(&bucket, &key, 0, None).await
    }

    async fn get_range(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        offset: u64,
        length: Option<u64>,
    ) -> Answer<Option<wit::Streamed>> {
        self.open_stream(&bucket, &key, offset, length).await
    }

    async fn stat(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
    ) -> Answer<Option<wit::Info>> {
        let name = self.name(&bucket)?;
        let found = self.store.stat(&name, &key).resolve().await.map_err(to_error);
        Ok(found.map(|found| found.as_ref().map(to_info)))
    }

    async fn exists(&mut self, bucket: Resource<Namespace>, key: String) -> Answer<bool> {
        let name = self.name(&bucket)?;
        let found = self.store.stat(&name, &key).resolve().await.map_err(to_error);
        Ok(found.map(|found| found.is_some()))
    }

    async fn put(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        value: Vec<u8>,
        options: wit::PutOptions,
    ) -> Answer<u64> {
        let name = self.name(&bucket)?;
        let operation =
            storage::Operation::Put { key, value: value.into(), options: to_options(options) };
        let effects = self.store.write(&name, vec![operation]).await.map_err(to_error);
        Ok(effects.and_then(|effects| match effects.first() {
            Some(storage::Effect::Written { version }) => Ok(*version),
            _ => Err(wit::Error::Unavailable),
        }))
    }

    async fn put_stream(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        value: Resource<DynInputStream>,
        options: wit::PutOptions,
    ) -> Answer<u64> {
        let name = self.name(&bucket)?;
        let body = from_guest(self.table.delete(value)?);
        let written = self.store.put_stream(&name, &key, body, to_options(options)).await;
        Ok(written.map_err(to_error))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Namespace>,
        key: String,
        condition: wit::Condition,
    ) -> Answer<bool> {
        let name = self.name(&bucket)?;
        let operation = storage::Operation::Delete { key, condition: to_condition(condition) };
        let effects = self.store.write(&name, vec![operation]).await.map_err(to_error);
        Ok(effects.map(|effects| {
            matches!(effects.first(), Some(storage::Effect::Deleted { existed: true }))
        }))
    }

    async fn write(
        &mut self,
        bucket: Resource<Namespace>,
        operations: Vec<wit::Operation>,
    ) -> Answer<()> {
        let name = self.name(&bucket)?;
        let operations = operations.into_iter().map(to_operation).collect();
        Ok(self.store.write(&name, operations).await.map(drop).map_err(to_error))
    }

    async fn list(
        &mut self,
        bucket: Resource<Namespace>,
        options: wit::ListOptions,
    ) -> Answer<wit::Page> {
        let name = self.name(&bucket)?;
        let options = storage::ListOptions {
            prefix: options.prefix,
            limit: options.limit,
            cursor: options.cursor,
        };
        let page = self.store.list(&name, options).resolve().await.map_err(to_error);
        Ok(page.map(|page| wit::Page {
            keys: page
                .keys
                .iter()
                .map(|(key, info)| wit::KeyInfo { key: key.clone(), info: to_info(info) })
                .collect(),
            cursor: page.cursor,
        }))
    }

    async fn drop(&mut self, bucket: Resource<Namespace>) -> Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_sees_its_own_and_its_granted_namespaces_and_no_others() {
        let grants = KvGrants::new("cms", &["default".to_owned(), "assets".to_owned()]);
        assert_eq!(&*grants.find("default").unwrap().name, "~cms");
        assert_eq!(&*grants.find("assets").unwrap().name, "assets");
        for name in ["", "other", "~cms", "~auth"] {
            assert!(grants.find(name).is_none(), "{name}");
        }
    }
}
