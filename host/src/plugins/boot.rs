//! What serves after a start.
//!
//! Owns the choice between the configuration and what was active before, and the compiling that a start may
//! need. The first start deploys the configuration as it stands; a later one serves what was active, from what
//! the house keeps. What isn't compiled is compiled in the background while the others serve.

use super::active::Places;
use super::canary::Canary;
use super::check::{self, PluginError};
use super::components::Components;
use super::deploy::{Candidate, DeployError, DeployRequest, blocking, is_well};
use super::records::{Pointer, Record, Records, RolledBack, Share, now};
use super::{Active, Plugins, Slot};
use crate::answers::AllAnswers;
use crate::cache::ResponseCache;
use crate::config::secrets::SecretText;
use crate::config::{Config, ConfigErrors};
use crate::engine::Engine;
use crate::storage::Store;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What plugins stand on: fixed from the start of the house to its end.
#[derive(Clone)]
pub struct Setup {
    /// The configuration, read anew for each deployment.
    pub file: PathBuf,
    /// What the configuration said of the house itself at the start.
    pub house: serde_json::Map<String, serde_json::Value>,
    /// Whether secrets may come from `.dev.vars`.
    pub dev_secrets: bool,
    /// Secrets that are the house's own where nobody sets them.
    pub house_secrets: BTreeMap<String, SecretText>,
    /// `server.swap_drain`
    pub swap_drain: Duration,
    /// `engine.max_instances`
    pub max_instances: u32,
    /// `auth.plugin`: it must export the verifier.
    pub verifier: Option<String>,
    /// The engine.
    pub engine: Arc<Engine>,
    /// The storage.
    pub store: Arc<dyn Store>,
    /// The response cache of the house, unless it is switched off.
    pub cache: Option<Arc<ResponseCache>>,
}

/// A version that must be compiled before it can serve.
struct ToCompile {
    slot: Arc<Slot>,
    candidate: Candidate,
}

impl Plugins {
    /// Makes active what is to serve, and starts to compile in the background what isn't compiled.
    ///
    /// `config` is the configuration with what is wrong with its plugins. With `deploy` it is deployed whatever
    /// was active before.
    ///
    /// # Errors
    /// What was active can't be served any more, or the configuration is to be deployed and can't be. A
    /// component whose compilation fails later is reported in the log and by the admin API.
    pub async fn open(
        setup: Setup,
        config: (Config, Option<ConfigErrors>),
        data: &Path,
        deploy: bool,
    ) -> Result<Arc<Self>, DeployError> {
        let components = Components::open(data).map_err(|source| PluginError::Keep {
            plugin: "*".to_owned(),
            path: data.join("components"),
            source,
        })?;
        let plugins = Arc::new(Self {
            active: ArcSwap::new(Active::new(0, Places::default()).map_err(PluginError::from)?),
            changes: watch::Sender::new(0),
            deploying: tokio::sync::Mutex::new(()),
            draining: Mutex::default(),
            last: Mutex::default(),
            records: Records::new(setup.store.clone()),
            components,
            answers: AllAnswers::default(),
            setup,
        });
        let pointer = plugins.records.pointer().await?;
        let to_compile = match &pointer {
            Some(pointer) => plugins.restore(pointer, deploy).await?,
            None => {
                let (config, errors) = config;
                errors.map_or(Ok(()), |errors| Err(DeployError::Config(errors)))?;
                plugins.first(&config).await?
            }
        };
        let none = to_compile.is_empty();
        plugins.clean_and_compile_in_background(to_compile);
        if pointer.is_some() && deploy {
            let request = DeployRequest { allow_new_grants: true, ..DeployRequest::default() };
            plugins.deploy(request).await?;
        } else if pointer.is_some() {
            tokio::spawn(plugins.clone().say_what_differs());
        }
        if none {
            plugins.changed();
        }
        Ok(plugins)
    }

    /// Deploys the configuration where nothing was deployed before.
    async fn first(self: &Arc<Self>, config: &Config) -> Result<Vec<ToCompile>, DeployError> {
        let mut places = Vec::new();
        for (name, plugin) in &config.plugins {
            let (read, components) = (plugin.clone(), self.components.clone());
            let verifier = self.setup.verifier.clone();
            let (digest, size) = blocking(move || {
                let (wasm, digest) = check::read(&read, verifier.as_deref())?;
                components.put(&digest, &wasm).map_err(|source| PluginError::Keep {
                    plugin: read.name.clone(),
                    path: components.path(&digest),
                    source,
                })?;
                Ok::<_, PluginError>((digest, wasm.len() as u64))
            })
            .await??;
            let record = Record {
                plugin: name.clone(),
                number: 1,
                digest,
                size,
                created: now(),
                table: plugin.table.clone(),
            };
            let secrets = self.secrets(plugin)?;
            places.push(Candidate { record, plugin: plugin.clone(), secrets, wasm: None });
        }
        let records: Vec<Record> = places.iter().map(|place| place.record.clone()).collect();
        let to_compile = self.fill(1, places, Vec::new(), BTreeMap::new()).await?;
        self.records.commit(&self.active().pointer(), &records).await?;
        Ok(to_compile)
    }

    /// Serves again what was active. What can't be used any more is left out with `lenient`, which is for a
    /// start that replaces it anyway.
    async fn restore(
        self: &Arc<Self>,
        pointer: &Pointer,
        lenient: bool,
    ) -> Result<Vec<ToCompile>, DeployError> {
        let mut places = Vec::new();
        for (name, number) in &pointer.plugins {
            match self.again(name, *number).await? {
                Ok(candidate) => places.push(candidate),
                Err(error) if lenient => tracing::warn!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
        let mut canaries = Vec::new();
        for (name, share) in &pointer.canaries {
            match self.again(name, share.version).await? {
                Ok(candidate) => canaries.push((candidate, share.clone())),
                // The version beside it serves its callers as well.
                Err(error) => tracing::error!("a canary does not go on: {error}"),
            }
        }
        self.fill(pointer.sequence, places, canaries, pointer.rolled_back.clone()).await
    }

    /// A version that served before.
    async fn again(
        &self,
        name: &str,
        number: u64,
    ) -> Result<Result<Candidate, PluginError>, DeployError> {
        let missing = || PluginError::Kept {
            plugin: name.to_owned(),
            number,
            reason: "it is missing in the storage".to_owned(),
        };
        let record = self.records.version(name, number).await?;
        Ok(record.ok_or_else(missing).and_then(|record| self.kept(record)))
    }

    /// Makes these versions the active ones. Gives those that must be compiled first.
    async fn fill(
        self: &Arc<Self>,
        sequence: u64,
        plugins: Vec<Candidate>,
        canaries: Vec<(Candidate, Share)>,
        rolled_back: BTreeMap<String, RolledBack>,
    ) -> Result<Vec<ToCompile>, DeployError> {
        let mut places = Places { rolled_back, ..Places::default() };
        let mut candidates = Vec::new();
        for candidate in plugins {
            let slot = self.slot(&candidate, false);
            places.slots.insert(candidate.record.plugin.clone(), slot.clone());
            candidates.push((slot, candidate));
        }
        for (candidate, Share { percent, since, .. }) in canaries {
            let name = candidate.record.plugin.clone();
            if places.slots.contains_key(&name) {
                let slot = self.slot(&candidate, true);
                places.canaries.insert(name, Canary::new(slot.clone(), percent, since));
                candidates.push((slot, candidate));
            }
        }
        let mut to_compile = Vec::new();
        for (slot, candidate) in candidates {
            match self.load(&candidate, false).await? {
                Some(version) => slot.activate(version),
                None => to_compile.push(ToCompile { slot, candidate }),
            }
        }
        let active = Active::new(sequence, places).map_err(PluginError::from)?;
        let nothing = self.active.swap(active.clone());
        self.watch_canaries(&nothing, &active);
        Ok(to_compile)
    }

    /// Removes what a crash may have left, then compiles the smallest first, so that as much as possible serves
    /// as soon as possible.
    fn clean_and_compile_in_background(self: &Arc<Self>, mut work: Vec<ToCompile>) {
        work.sort_by_key(|item| item.candidate.record.size);
        let plugins = self.clone();
        tokio::spawn(async move {
            {
                let _turn = plugins.deploying.lock().await;
                if let Err(error) = plugins.collect(true).await {
                    tracing::warn!("what a crash may have left was not removed: {error}");
                }
            }
            let of = work.len();
            for (done, ToCompile { slot, candidate }) in work.into_iter().enumerate() {
                let name = &slot.plugin.name;
                tracing::info!(
                    "compiling plugin `{name}` ({} of {of}, {:.1} MB); the other plugins serve meanwhile",
                    done + 1,
                    candidate.record.size as f64 / 1e6
                );
                let began = Instant::now();
                let loaded = match plugins.load(&candidate, true).await {
                    // What was compiled before was asked then.
                    Ok(Some(version)) if version.plugin.health.is_some() => {
                        is_well(&version).await.map(|()| Some(version)).map_err(Into::into)
                    }
                    loaded => loaded,
                };
                match loaded {
                    Ok(None) => {}
                    Ok(Some(version)) => {
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
                plugins.changed();
            }
        });
    }

    /// Tells the operator whether the configuration says something else than what serves.
    async fn say_what_differs(self: Arc<Self>) {
        let file = self.setup.file.display();
        match self.plan(&DeployRequest::default()).await {
            Ok((plan, _)) if plan.is_empty() => {}
            Ok((plan, _)) => tracing::warn!(
                "{file} differs from what serves: {}. `guesthouse deploy` applies it, `serve --deploy` at a \
                 start",
                plan.summary()
            ),
            Err(error) => tracing::warn!(
                "{file} could not be compared with what serves, which goes on as it was: {error}"
            ),
        }
    }
}
