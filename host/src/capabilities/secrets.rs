//! `guesthouse:secrets`: texts that only the plugins that were granted them can read.

use crate::config::Plugin;
use crate::config::fetch::FetchGrant;
use crate::config::secrets::{SecretText, Secrets};
use guesthouse_bindings::guesthouse::secrets::store;
use guesthouse_bindings::handles::Secret;
use std::collections::BTreeMap;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

/// The secrets that one plugin was granted.
#[derive(Clone, Debug, Default)]
pub struct SecretGrants {
    /// What it may read.
    readable: BTreeMap<String, SecretText>,
    /// What is sent along with its requests, and which it never sees.
    injected: BTreeMap<String, SecretText>,
}

impl SecretGrants {
    /// *Configure*: of all secrets, those that the plugin's configuration names.
    #[must_use]
    pub fn new(secrets: &Secrets, plugin: &Plugin) -> Self {
        let granted = |name: &String| Some((name.clone(), secrets.get(name)?.clone()));
        Self {
            readable: plugin.secrets.iter().filter_map(granted).collect(),
            injected: plugin
                .fetch
                .iter()
                .flat_map(FetchGrant::secrets)
                .filter_map(granted)
                .collect(),
        }
    }

    /// For the requests that the plugin sends, never for the plugin.
    #[must_use]
    pub fn injected(&self) -> &BTreeMap<String, SecretText> {
        &self.injected
    }
}

/// How an instance sees them.
pub struct SecretsView<'a> {
    /// The instance's handles.
    pub table: &'a mut ResourceTable,
    /// The plugin's grants.
    pub grants: &'a SecretGrants,
}

struct HasSecrets;

impl HasData for HasSecrets {
    type Data<'a> = SecretsView<'a>;
}

/// *Link*.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> SecretsView<'_>,
) -> Result<()> {
    store::add_to_linker::<T, HasSecrets>(linker, view)
}

impl store::Host for SecretsView<'_> {
    fn get(&mut self, name: String) -> Result<Option<Resource<Secret>>> {
        if !self.grants.readable.contains_key(&name) {
            return Ok(None);
        }
        Ok(Some(self.table.push(Secret { name })?))
    }
}

impl store::HostSecret for SecretsView<'_> {
    fn reveal(&mut self, secret: Resource<Secret>) -> Result<String> {
        let name = &self.table.get(&secret)?.name;
        let text = self.grants.readable.get(name).map(|text| text.reveal().to_owned());
        Ok(text.unwrap_or_default())
    }

    fn drop(&mut self, secret: Resource<Secret>) -> Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}
