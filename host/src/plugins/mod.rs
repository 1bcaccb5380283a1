//! Plugins: what "active" means.
//!
//! Owns the plugins of the house and which version of each serves. It never compiles on the path of a
//! request: a component that isn't ready is compiled on a thread of its own while the others serve, and
//! requests for it are told to come back. The danger that shaped it: one large component that keeps the
//! whole house from opening its door.

pub mod inspect;

use crate::cache::{Partition, ResponseCache};
use crate::capabilities::secrets::SecretGrants;
use crate::capabilities::{Grant, grant_for};
use crate::config::{Config, Plugin};
use crate::engine::artifact;
use crate::engine::{Engine, LoadError, Version};
use crate::storage::Store;
use arc_swap::ArcSwapOption;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often instances that wait are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Why a plugin could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file can't be read.
    #[error("plugin `{plugin}`: the component {path} can't be read: {source}")]
    Read {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no component.
    #[error("plugin `{plugin}`: {path}: {reason}")]
    NotAComponent {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What it is instead, and the mend.
        reason: String,
    },
    /// It imports what it was not granted.
    #[error(
        "plugin `{plugin}` imports {import}, which it was not granted. To grant it, add `{example}` to \
         [plugins.{plugin}]"
    )]
    NotGranted {
        /// The plugin.
        plugin: String,
        /// The interface.
        import: String,
        /// A line of configuration.
        example: &'static str,
    },
    /// It imports what this host has not.
    #[error(
        "plugin `{plugin}` imports {import}, which this host does not have; wit/plugin.wit lists what it has"
    )]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The interface.
        import: String,
    },
    /// It does not export a handler.
    #[error(
        "plugin `{plugin}` exports neither wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3, so \
         there is nothing to route requests to"
    )]
    NoHandler {
        /// The plugin.
        plugin: String,
    },
    /// The engine refused it.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What a plugin is doing.
#[derive(Clone, Debug)]
pub enum State {
    /// Its component is being compiled.
    Compiling,
    /// It serves.
    Serving,
    /// It can't, for this reason.
    Failed(String),
}

/// A plugin of the house.
pub struct Slot {
    /// Its configuration.
    pub plugin: Arc<Plugin>,
    /// Its part of the response cache, when it has one.
    pub cache: Option<Partition>,
    active: ArcSwapOption<Version>,
    state: parking_lot::Mutex<State>,
}

impl Slot {
    /// The version that serves; none while the component is being compiled.
    pub fn active(&self) -> Option<Arc<Version>> {
        self.active.load_full()
    }

    /// What the plugin is doing.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    fn activate(&self, version: Arc<Version>) {
        self.active.store(Some(version));
        *self.state.lock() = State::Serving;
    }

    fn fail(&self, reason: String) {
        *self.state.lock() = State::Failed(reason);
    }
}

/// All plugins of the house.
pub struct Plugins {
    slots: BTreeMap<String, Arc<Slot>>,
}

/// A component that must be compiled before it can serve.
struct ToCompile {
    slot: Arc<Slot>,
    digest: String,
    wasm: Vec<u8>,
    secrets: SecretGrants,
}

impl Plugins {
    /// Reads all components, loads what is compiled already, and starts to compile the rest in the
    /// background.
    ///
    /// # Errors
    /// The first component that is missing, is no component, or imports what it was not granted. A
    /// component whose compilation fails later is reported in the log and by the admin API.
    pub fn open(
        config: &Config,
        engine: &Arc<Engine>,
        store: &Arc<dyn Store>,
        cache: Option<&Arc<ResponseCache>>,
        secrets: &dyn Fn(&Plugin) -> SecretGrants,
    ) -> Result<Arc<Self>, PluginError> {
        let mut slots = BTreeMap::new();
        let mut to_compile = Vec::new();
        for (name, plugin) in &config.plugins {
            let slot = Arc::new(Slot {
                plugin: plugin.clone(),
                cache: cache.filter(|_| plugin.cache).map(ResponseCache::partition),
                active: ArcSwapOption::empty(),
                state: parking_lot::Mutex::new(State::Compiling),
            });
            slots.insert(name.clone(), slot.clone());
            let wasm = std::fs::read(&plugin.component).map_err(|source| PluginError::Read {
                plugin: name.clone(),
                path: plugin.component.clone(),
                source,
            })?;
            check(plugin, &wasm)?;
            let digest = artifact::digest(&wasm);
            let secrets = secrets(plugin);
            if let Some(component) = engine.ready(&digest) {
                let size = wasm.len() as u64;
                let version =
                    engine.load(plugin, &component, &digest, size, secrets, store.clone())?;
                slot.activate(version);
            } else {
                to_compile.push(ToCompile { slot, digest, wasm, secrets });
            }
        }
        compile_in_background(to_compile, engine.clone(), store.clone());
        Ok(Arc::new(Self { slots }))
    }

    /// All plugins by name.
    pub fn slots(&self) -> &BTreeMap<String, Arc<Slot>> {
        &self.slots
    }

    /// One plugin.
    pub fn get(&self, name: &str) -> Option<&Arc<Slot>> {
        self.slots.get(name)
    }

    /// Drops instances that have waited too long, again and again.
    pub async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP_EVERY);
        loop {
            interval.tick().await;
            for slot in self.slots.values() {
                if let Some(version) = slot.active() {
                    version.sweep();
                }
            }
        }
    }
}

/// Looks at a component without compiling it: is it one, and was it granted what it imports?
fn check(plugin: &Plugin, wasm: &[u8]) -> Result<(), PluginError> {
    let name = || plugin.name.clone();
    let report = inspect::inspect(wasm).map_err(|error| PluginError::NotAComponent {
        plugin: name(),
        path: plugin.component.clone(),
        reason: error.to_string(),
    })?;
    for import in report.imports {
        let granted = match grant_for(&import) {
            Grant::Free => continue,
            Grant::Unknown => return Err(PluginError::Unknown { plugin: name(), import }),
            Grant::Needs { key: "kv", .. } => !plugin.kv.is_empty(),
            Grant::Needs { key: "secrets", .. } => !plugin.secrets.is_empty(),
            Grant::Needs { .. } => false,
        };
        if let Grant::Needs { example, .. } = grant_for(&import)
            && !granted
        {
            return Err(PluginError::NotGranted { plugin: name(), import, example });
        }
    }
    if report.kind == inspect::Kind::None {
        return Err(PluginError::NoHandler { plugin: name() });
    }
    Ok(())
}

/// Compiles the smallest first, so that as much as possible serves as soon as possible.
fn compile_in_background(mut work: Vec<ToCompile>, engine: Arc<Engine>, store: Arc<dyn Store>) {
    if work.is_empty() {
        return;
    }
    work.sort_by_key(|item| item.wasm.len());
    let compile = move || {
        let of = work.len();
        for (done, item) in work.into_iter().enumerate() {
            let ToCompile { slot, digest, wasm, secrets } = item;
            let name = slot.plugin.name.clone();
            let size = wasm.len() as u64;
            tracing::info!(
                "compiling plugin `{name}` ({} of {of}, {:.1} MB); the other plugins serve meanwhile",
                done + 1,
                size as f64 / 1e6
            );
            let began = Instant::now();
            let loaded = engine.compile(&digest, &wasm).and_then(|component| {
                engine.load(&slot.plugin, &component, &digest, size, secrets, store.clone())
            });
            match loaded {
                Ok(version) => {
                    tracing::info!(
                        "plugin `{name}` is ready after {:.1} s of compiling",
                        began.elapsed().as_secs_f64()
                    );
                    slot.activate(version);
                }
                Err(error) => {
                    tracing::error!("plugin `{name}` can't serve: {error}");
                    slot.fail(error.to_string());
                }
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("compile".into()).spawn(compile) {
        tracing::error!("no thread could be started for compiling: {error}");
    }
}
