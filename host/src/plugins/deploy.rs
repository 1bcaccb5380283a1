//! From the configuration to an active deployment, and back.
//!
//! Owns the order of the steps. Everything that can fail comes before the switch: reading, checking, keeping,
//! compiling, making an instance. Then one durable write, then one pointer. Until that write the old
//! deployment is the active one, and whatever fails leaves nothing behind.

use super::check::{self, PluginError};
use super::plan::{Change, Kind, Plan};
use super::records::{Record, RolledBack, now};
use super::{Active, Plugins, Setup, Slot, canary};
use crate::cache::ResponseCache;
use crate::capabilities::secrets::SecretGrants;
use crate::config::secrets::Secrets;
use crate::config::{Config, ConfigErrors, Plugin};
use crate::engine::{Version, Watch};
use crate::fault;
use crate::storage::StoreError;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// What an operator asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// Only these plugins; empty: all.
    pub plugins: Vec<String>,
    /// A new version though nothing has changed.
    pub force: bool,
    /// Plugins may be given more than they have.
    pub allow_new_grants: bool,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Only if this is still the plan.
    pub plan: Option<String>,
    /// New versions serve so many of a hundred callers, and the others are served as now; none: all.
    pub canary: Option<u8>,
}

/// What has happened.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was planned.
    pub plan: Plan,
    /// Whether it was done.
    pub deployed: bool,
    /// The number of the deployment that serves now.
    pub sequence: u64,
    /// Milliseconds for everything.
    pub took_ms: u64,
    /// Microseconds from the durable pointer until every new request met the new deployment.
    pub switch_micros: Option<u64>,
}

impl Outcome {
    /// Nothing yet.
    pub(super) fn of(plan: Plan) -> Self {
        let sequence = plan.base;
        Self { plan, deployed: false, sequence, took_ms: 0, switch_micros: None }
    }
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// A plugin can't be made ready.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// There is no such plugin or version.
    #[error("{0}")]
    NotFound(String),
    /// A plugin would be given more than it has.
    #[error(
        "this gives plugins what they do not have: {}. If that is meant, deploy with --allow-new-grants",
        .0.join(", ")
    )]
    NewGrants(Vec<String>),
    /// It can't be tried on a share of the callers.
    #[error("{0}")]
    Canary(String),
    /// The plan is another by now.
    #[error(
        "the configuration or what is active has changed since the plan was made; look at it again"
    )]
    PlanChanged,
    /// The storage failed.
    #[error("the deployment could not be kept: {0}")]
    Storage(#[from] StoreError),
    /// A task of the house failed.
    #[error("{0}")]
    Internal(String),
}

/// A version that is to be made ready.
pub(super) struct Candidate {
    pub(super) record: Record,
    pub(super) plugin: Arc<Plugin>,
    pub(super) secrets: SecretGrants,
    /// The component, unless it is kept already.
    pub(super) wasm: Option<Vec<u8>>,
}

/// What a deployment changes about one plugin.
pub(super) enum Step {
    /// This version is made ready, for all callers or for so many of a hundred.
    New(Box<Candidate>, Option<u8>),
    /// Its canary gets another share.
    Share(u8),
    /// Its canary takes over.
    TakesOver,
    /// Its canary ends; why, when it is taken back by itself.
    Ends(Option<RolledBack>),
    /// It goes.
    Removed,
}

/// What is to happen, by the names of plugins.
pub(super) type Steps = BTreeMap<String, Step>;

/// Runs what blocks away from the threads that must not.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeployError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DeployError::Internal(format!("a task of the house failed: {error}")))
}

impl Plugins {
    /// Compares the configuration with what is active and, unless it is a dry run, makes it so.
    ///
    /// # Errors
    /// See [`DeployError`]; nothing has changed then.
    pub async fn deploy(self: &Arc<Self>, request: DeployRequest) -> Result<Outcome, DeployError> {
        // A task of its own: an operator who hangs up in the middle changes nothing about the rest.
        let plugins = self.clone();
        let work = async move { plugins.deploy_here(request).await };
        flatten(tokio::spawn(work).await)
    }

    /// The kept versions of a plugin, the oldest first.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn versions(&self, plugin: &str) -> Result<Vec<Record>, StoreError> {
        self.records.versions(plugin).await
    }

    async fn deploy_here(self: &Arc<Self>, request: DeployRequest) -> Result<Outcome, DeployError> {
        let began = Instant::now();
        let _turn = if request.dry_run { None } else { Some(self.deploying.lock().await) };
        let (plan, steps) = self.plan(&request).await?;
        let outcome = Outcome::of(plan);
        if request.dry_run {
            return Ok(outcome);
        }
        if request.plan.is_some_and(|seen| seen != outcome.plan.id) {
            return Err(DeployError::PlanChanged);
        }
        let grants = outcome.plan.new_grants();
        if !grants.is_empty() && !request.allow_new_grants {
            return Err(DeployError::NewGrants(grants));
        }
        if outcome.plan.is_empty() {
            return Ok(outcome);
        }
        fault::reach("planned");
        self.replace(outcome, steps, began).await
    }

    /// What a deployment would change, and the steps to it.
    pub(super) async fn plan(&self, request: &DeployRequest) -> Result<(Plan, Steps), DeployError> {
        let base = self.active();
        let file = self.setup.file.clone();
        let config = blocking(move || Config::load(&file)).await?.map_err(DeployError::Config)?;
        let asked = |name: &str| {
            request.plugins.is_empty() || request.plugins.iter().any(|asked| asked == name)
        };
        if let Some(unknown) = request
            .plugins
            .iter()
            .find(|name| !config.plugins.contains_key(*name) && base.get(name).is_none())
        {
            return Err(DeployError::NotFound(format!(
                "there is no plugin `{unknown}`, neither active nor in {}",
                config.file.display()
            )));
        }
        let active = self.active_records(&base).await?;
        let mut wanted = active.clone();
        wanted.retain(|name, _| !asked(name) || config.plugins.contains_key(name));
        let mut components = BTreeMap::new();
        let (mut steps, canaries) = (Steps::new(), self.canary_records(&base).await?);
        for (name, plugin) in config.plugins.iter().filter(|(name, _)| asked(name)) {
            let (read, verifier) = (plugin.clone(), self.setup.verifier.clone());
            let (wasm, digest) =
                blocking(move || check::read(&read, verifier.as_deref())).await??;
            let runs = canaries.get(name).filter(|record| {
                !request.force && record.digest == digest && record.table == plugin.table
            });
            if let Some(record) = runs {
                // What the canary runs is no new version. It goes on, unless it is to get another share.
                let share = base.canary(name).map(|canary| canary.percent);
                if let Some(percent) = request.canary.filter(|percent| Some(*percent) != share) {
                    wanted.insert(name.clone(), record.clone());
                    steps.insert(name.clone(), Step::Share(percent));
                }
                continue;
            }
            let latest = self.records.versions(name).await?.last().map_or(0, |last| last.number);
            let record = Record {
                plugin: name.clone(),
                number: latest + 1,
                digest,
                size: wasm.len() as u64,
                created: now(),
                table: plugin.table.clone(),
            };
            wanted.insert(name.clone(), record);
            components.insert(name.clone(), wasm);
        }
        let force = |name: &str| request.force && asked(name);
        let mut plan = Plan::new(base.sequence(), &active, &wanted, &force, request.canary)
            .with_house(&self.setup.house, &config.house);
        canary::check_plan(&plan, request, self.setup.verifier.as_deref())?;
        for (name, canary) in base.canaries().iter().filter(|(name, _)| asked(name)) {
            let changed =
                |change: &&Change| change.plugin == *name && change.change != Kind::Unchanged;
            if plan.plugins.iter().any(|change| changed(&change)) && !steps.contains_key(name) {
                plan.ends(name, canary.slot.number);
            }
        }
        for change in &plan.plugins {
            let name = &change.plugin;
            match change.change {
                Kind::Removed => _ = steps.insert(name.clone(), Step::Removed),
                Kind::Added | Kind::Changed if !steps.contains_key(name) => {
                    let (Some(plugin), Some(record)) =
                        (config.plugins.get(name), wanted.remove(name))
                    else {
                        continue;
                    };
                    let candidate = Candidate {
                        secrets: self.secrets(plugin)?,
                        record,
                        plugin: plugin.clone(),
                        wasm: components.remove(name),
                    };
                    let step = Step::New(Box::new(candidate), request.canary);
                    steps.insert(name.clone(), step);
                }
                _ => {}
            }
        }
        Ok((plan, steps))
    }

    /// The records of what is active.
    pub(super) async fn active_records(
        &self,
        active: &Active,
    ) -> Result<BTreeMap<String, Record>, DeployError> {
        self.records_of(active.slots().values()).await
    }

    /// The records of the canaries.
    async fn canary_records(
        &self,
        active: &Active,
    ) -> Result<BTreeMap<String, Record>, DeployError> {
        self.records_of(active.canaries().values().map(|canary| &canary.slot)).await
    }

    async fn records_of<'a>(
        &self,
        slots: impl Iterator<Item = &'a Arc<Slot>>,
    ) -> Result<BTreeMap<String, Record>, DeployError> {
        let mut records = BTreeMap::new();
        for slot in slots {
            let name = &slot.plugin.name;
            if let Some(record) = self.records.version(name, slot.number).await? {
                records.insert(name.clone(), record);
            }
        }
        Ok(records)
    }

    /// The secrets that a plugin was granted, read anew.
    pub(super) fn secrets(&self, plugin: &Plugin) -> Result<SecretGrants, PluginError> {
        let Setup { file, dev_secrets, house_secrets, .. } = &self.setup;
        let secrets = Secrets::load(file, std::iter::once(plugin), *dev_secrets, house_secrets)
            .map_err(PluginError::Secrets)?;
        Ok(SecretGrants::new(&secrets, plugin))
    }

    /// A version as it was kept.
    pub(super) fn kept(&self, record: Record) -> Result<Candidate, PluginError> {
        let component = self.components.path(&record.digest);
        let most = self.setup.max_instances;
        let plugin =
            Plugin::stored(&record.plugin, &record.table, &component, most).map_err(|errors| {
                PluginError::Kept {
                    plugin: record.plugin.clone(),
                    number: record.number,
                    reason: errors.to_string(),
                }
            })?;
        Ok(Candidate {
            secrets: self.secrets(&plugin)?,
            plugin: Arc::new(plugin),
            record,
            wasm: None,
        })
    }

    /// An empty place for a version, which may be a canary.
    pub(super) fn slot(&self, candidate: &Candidate, is_canary: bool) -> Arc<Slot> {
        let cache = self.setup.cache.as_ref().filter(|_| candidate.plugin.cache);
        Slot::new(
            candidate.plugin.clone(),
            candidate.record.number,
            candidate.record.digest.clone(),
            cache.map(ResponseCache::partition),
            is_canary.then(|| Watch::new(candidate.plugin.canary)),
            self.answers.of(&candidate.record.plugin),
        )
    }

    /// Makes the next deployment of the active one and serves it, in one step.
    pub(super) async fn replace(
        self: &Arc<Self>,
        outcome: Outcome,
        steps: Steps,
        began: Instant,
    ) -> Result<Outcome, DeployError> {
        let result = self.try_replace(outcome, steps, began).await;
        let collected = self.collect(false).await;
        fault::reach("collected");
        if let Err(error) = collected {
            tracing::warn!("what no version needs any more was not removed: {error}");
        }
        result
    }

    async fn try_replace(
        self: &Arc<Self>,
        mut outcome: Outcome,
        steps: Steps,
        began: Instant,
    ) -> Result<Outcome, DeployError> {
        let base = self.active();
        let mut places = base.places();
        let mut to_prepare = Vec::new();
        for (name, step) in steps {
            if let Step::New(candidate, percent) = step {
                let slot = self.slot(&candidate, percent.is_some());
                places.put(&name, slot.clone(), percent);
                to_prepare.push((slot, candidate));
            } else {
                places.take(&name, step);
            }
        }
        // Conflicts are found before anything is compiled.
        let next = Active::new(base.sequence() + 1, places).map_err(PluginError::from)?;
        let mut records = Vec::new();
        for (slot, mut candidate) in to_prepare {
            slot.activate(self.prepare(&mut candidate).await?);
            records.push(candidate.record);
        }
        fault::reach("ready");
        self.records.commit(&next.pointer(), &records).await?;
        fault::reach("committed");
        let switch = Instant::now();
        let old = self.active.swap(next.clone());
        let switch = switch.elapsed();
        fault::reach("switched");
        self.changed();
        self.watch_canaries(&old, &next);
        for slot in old.all().filter(|slot| !next.all().any(|kept| Arc::ptr_eq(kept, slot))) {
            self.retire(slot.clone());
        }
        outcome.deployed = true;
        outcome.sequence = next.sequence();
        outcome.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        outcome.switch_micros = Some(u64::try_from(switch.as_micros()).unwrap_or(u64::MAX));
        *self.last.lock() = Some(outcome.clone());
        tracing::info!(
            "deployment {} serves ({}): ready after {} ms, switched in {} µs",
            outcome.sequence,
            outcome.plan.summary(),
            outcome.took_ms,
            switch.as_micros()
        );
        Ok(outcome)
    }

    /// Keeps, compiles, loads and checks a version. Whatever it is, nobody is served by it yet.
    async fn prepare(
        self: &Arc<Self>,
        candidate: &mut Candidate,
    ) -> Result<Arc<Version>, DeployError> {
        if let Some(wasm) = candidate.wasm.take() {
            let (components, digest) = (self.components.clone(), candidate.record.digest.clone());
            let kept = blocking(move || components.put(&digest, &wasm)).await?;
            kept.map_err(|source| PluginError::Keep {
                plugin: candidate.record.plugin.clone(),
                path: self.components.path(&candidate.record.digest),
                source,
            })?;
            fault::reach("component-kept");
        }
        let version = self.load(candidate, true).await?.ok_or_else(|| {
            DeployError::Internal("a version was compiled and is not there".to_owned())
        })?;
        fault::reach("compiled");
        is_well(&version).await?;
        Ok(version)
    }

    /// Loads a version whose component is kept. If it must be compiled first, that is done with `compile`, and
    /// without it there is none.
    pub(super) async fn load(
        self: &Arc<Self>,
        candidate: &Candidate,
        compile: bool,
    ) -> Result<Option<Arc<Version>>, DeployError> {
        let plugins = self.clone();
        let (plugin, secrets) = (candidate.plugin.clone(), candidate.secrets.clone());
        let record = candidate.record.clone();
        let load = move || plugins.load_here(&plugin, &record, secrets, compile);
        blocking(load).await?.map_err(DeployError::Plugin)
    }

    fn load_here(
        &self,
        plugin: &Arc<Plugin>,
        record: &Record,
        secrets: SecretGrants,
        compile: bool,
    ) -> Result<Option<Arc<Version>>, PluginError> {
        let refuse = |source| PluginError::Load { plugin: plugin.name.clone(), source };
        let engine = &self.setup.engine;
        let Record { digest, size, number, .. } = record;
        let component = match engine.ready(digest) {
            Some(component) => component,
            None if compile => {
                self.components.verify(digest).map_err(|error| PluginError::Kept {
                    plugin: plugin.name.clone(),
                    number: *number,
                    reason: error.to_string(),
                })?;
                engine.compile(digest, &self.components.path(digest)).map_err(refuse)?
            }
            None => return Ok(None),
        };
        let store = self.setup.store.clone();
        let version = engine.load(plugin, *number, &component, digest, *size, secrets, store);
        version.map(Some).map_err(refuse)
    }

    /// Removes components and code that no kept version needs.
    pub(super) async fn collect(&self, leftovers: bool) -> Result<(), DeployError> {
        let mut needed: HashSet<String> =
            self.records.versions("").await?.into_iter().map(|record| record.digest).collect();
        // A version may be too old to be kept and serve all the same.
        needed.extend(self.active().all().map(|slot| slot.digest.clone()));
        let (components, engine) = (self.components.clone(), self.setup.engine.clone());
        blocking(move || {
            components.collect(&|digest| needed.contains(digest));
            engine.collect(&|digest| needed.contains(digest), leftovers);
        })
        .await
    }
}

pub(super) fn flatten<T>(
    joined: Result<Result<T, DeployError>, tokio::task::JoinError>,
) -> Result<T, DeployError> {
    joined.unwrap_or_else(|error| Err(DeployError::Internal(error.to_string())))
}

/// Whether the version can make an instance, and answers well to its `health` path if it has one.
pub(super) async fn is_well(version: &Arc<Version>) -> Result<(), PluginError> {
    let plugin = version.plugin.name.clone();
    let path = version.plugin.health.clone();
    let request = path.as_deref().and_then(health_request);
    match version.check(request).await {
        Err(failure) => Err(PluginError::Check { plugin, failure }),
        Ok(Some(status)) if status.is_server_error() => Err(PluginError::Unhealthy {
            plugin,
            path: path.unwrap_or_default(),
            status: status.as_u16(),
        }),
        Ok(_) => Ok(()),
    }
}

/// A GET for the path, as a client of the house would send it.
fn health_request(path: &str) -> Option<http::Request<wasmtime_wasi_http::WasiBody>> {
    let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::USER_AGENT, concat!("guesthouse/", env!("CARGO_PKG_VERSION")))
        .header("x-request-id", "health")
        .body(body)
        .ok()
}
