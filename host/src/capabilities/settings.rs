//! `wasi:config/store`: the plugin's own settings, from `config = { … }`.

use guesthouse_bindings::wasi::config::store;
use std::collections::BTreeMap;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

/// The settings of one plugin.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// *Configure*: what the operator wrote, and what the house adds by itself.
    #[must_use]
    pub fn new(plugin: &str, mut settings: BTreeMap<String, String>, host: &HostSettings) -> Self {
        settings.extend(host.0.get(plugin).cloned().unwrap_or_default());
        Self(settings)
    }
}

/// What the house itself tells plugins, whatever their configuration says.
#[derive(Clone, Debug, Default)]
pub struct HostSettings(BTreeMap<String, BTreeMap<String, String>>);

impl HostSettings {
    /// Settings for this plugin, besides those that it has.
    pub fn tell(&mut self, plugin: &str, settings: impl IntoIterator<Item = (String, String)>) {
        self.0.entry(plugin.to_owned()).or_default().extend(settings);
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
