//! `wasi:config/store`: the plugin's own settings, from `config = { … }`.

use guesthouse_bindings::wasi::config::store;
use std::collections::BTreeMap;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

/// The settings of one plugin.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// *Configure*.
    #[must_use]
    pub fn new(settings: BTreeMap<String, String>) -> Self {
        Self(settings)
    }
}

/// How an instance sees them.
pub struct SettingsView<'a> {
    /// The plugin's settings.
    pub settings: &'a Settings,
}

struct HasSettings;

impl HasData for HasSettings {
    type Data<'a> = SettingsView<'a>;
}

/// *Link*.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> SettingsView<'_>,
) -> Result<()> {
    store::add_to_linker::<T, HasSettings>(linker, view)
}

impl store::Host for SettingsView<'_> {
    fn get(&mut self, key: String) -> Result<Result<Option<String>, store::Error>> {
        Ok(Ok(self.settings.0.get(&key).cloned()))
    }

    fn get_all(&mut self) -> Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.settings.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
    }
}
