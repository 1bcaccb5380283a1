//! From the configuration to an active deployment, and back.
//!
//! Owns the order of the steps. Everything that can fail comes before the switch: reading, checking, keeping,
//! compiling, making an instance. Then one durable write, then one pointer. Until that write the old
//! deployment is the active one, and whatever fails leaves nothing behind.

use super::check::{self, PluginError};
use super::plan::{Kind, Plan};
use super::records::{Pointer, Record, now};
use super::{Active, Plugins, Setup, Slot};
use crate::cache::ResponseCache;
use crate::capabilities::secrets::SecretGrants;
use crate::config::secrets::Secrets;
use crate::config::{Config, ConfigErrors, Plugin};
use crate::engine::Version;
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

    /// Makes an earlier version of a plugin the active one; without a number, the one before.
    ///
    /// # Errors
    /// See [`DeployError`]; nothing has changed then.
    pub async fn rollback(
        self: &Arc<Self>,
        plugin: String,
        number: Option<u64>,
    ) -> Result<Outcome, DeployError> {
        let plugins = self.clone();
        let work = async move { plugins.rollback_here(&plugin, number).await };
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
        let (plan, candidates) = self.plan(&request).await?;
        let base = self.active();
        let outcome = Outcome {
            plan,
            deployed: false,
            sequence: base.sequence(),
            took_ms: 0,
            switch_micros: None,
        };
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
        let removed = outcome.plan.plugins.iter().filter(|change| change.change == Kind::Removed);
        let removed = removed.map(|change| change.plugin.clone()).collect();
        self.replace(outcome, candidates, removed, began).await
    }

    async fn rollback_here(
        self: &Arc<Self>,
        name: &str,
        number: Option<u64>,
    ) -> Result<Outcome, DeployError> {
        let began = Instant::now();
        let _turn = self.deploying.lock().await;
        let base = self.active();
        let now = base.get(name).map(|slot| slot.number);
        let kept = self.records.versions(name).await?;
        let before = |record: &&Record| now.is_none_or(|now| record.number < now);
        let target = match number {
            Some(number) => kept.iter().find(|record| record.number == number),
            None => kept.iter().rev().find(before),
        };
        let Some(target) = target else {
            return Err(DeployError::NotFound(no_version(name, number, &kept)));
        };
        let active = self.active_records(&base).await?;
        let mut wanted = active.clone();
        wanted.insert(name.to_owned(), target.clone());
        let plan = Plan::new(base.sequence(), &active, &wanted, &|_| false);
        let outcome = Outcome {
            plan,
            deployed: false,
            sequence: base.sequence(),
            took_ms: 0,
            switch_micros: None,
        };
        if now == Some(target.number) {
            return Ok(outcome);
        }
        let candidate = self.kept(target.clone())?;
        self.replace(outcome, vec![candidate], Vec::new(), began).await
    }

    /// What a deployment would change, and the versions that it would need.
    pub(super) async fn plan(
        &self,
        request: &DeployRequest,
    ) -> Result<(Plan, Vec<Candidate>), DeployError> {
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
        for (name, plugin) in config.plugins.iter().filter(|(name, _)| asked(name)) {
            let (read, verifier) = (plugin.clone(), self.setup.verifier.clone());
            let (wasm, digest) =
                blocking(move || check::read(&read, verifier.as_deref())).await??;
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
        let plan = Plan::new(base.sequence(), &active, &wanted, &force)
            .with_house(&self.setup.house, &config.house);
        let mut candidates = Vec::new();
        for change in &plan.plugins {
            if !matches!(change.change, Kind::Added | Kind::Changed) {
                continue;
            }
            let (Some(plugin), Some(record)) =
                (config.plugins.get(&change.plugin), wanted.remove(&change.plugin))
            else {
                continue;
            };
            candidates.push(Candidate {
                secrets: self.secrets(plugin)?,
                record,
                plugin: plugin.clone(),
                wasm: components.remove(&change.plugin),
            });
        }
        Ok((plan, candidates))
    }

    /// The records of what is active.
    async fn active_records(
        &self,
        active: &Active,
    ) -> Result<BTreeMap<String, Record>, DeployError> {
        let mut records = BTreeMap::new();
        for (name, slot) in active.slots() {
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

    /// An empty place for a version.
    pub(super) fn slot(&self, candidate: &Candidate) -> Arc<Slot> {
        let cache = self.setup.cache.as_ref().filter(|_| candidate.plugin.cache);
        Slot::new(
            candidate.plugin.clone(),
            candidate.record.number,
            candidate.record.digest.clone(),
            cache.map(ResponseCache::partition),
        )
    }

    /// Puts these versions in the place of those that are active, in one step.
    async fn replace(
        self: &Arc<Self>,
        outcome: Outcome,
        candidates: Vec<Candidate>,
        removed: Vec<String>,
        began: Instant,
    ) -> Result<Outcome, DeployError> {
        let result = self.try_replace(outcome, candidates, removed, began).await;
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
        mut candidates: Vec<Candidate>,
        removed: Vec<String>,
        began: Instant,
    ) -> Result<Outcome, DeployError> {
        let base = self.active();
        let mut slots = base.slots().clone();
        slots.retain(|name, _| !removed.contains(name));
        for candidate in &candidates {
            slots.insert(candidate.record.plugin.clone(), self.slot(candidate));
        }
        // Conflicts are found before anything is compiled.
        let next = Active::new(base.sequence() + 1, slots).map_err(PluginError::from)?;
        for candidate in &mut candidates {
            let version = self.prepare(candidate).await?;
            if let Some(slot) = next.get(&candidate.record.plugin) {
                slot.activate(version);
            }
        }
        let pointer = Pointer {
            sequence: next.sequence(),
            at: now(),
            plugins: next.slots().iter().map(|(name, slot)| (name.clone(), slot.number)).collect(),
        };
        let records: Vec<Record> =
            candidates.into_iter().map(|candidate| candidate.record).collect();
        fault::reach("ready");
        self.records.commit(&pointer, &records).await?;
        fault::reach("committed");
        let switch = Instant::now();
        let old = self.active.swap(next.clone());
        let switch = switch.elapsed();
        fault::reach("switched");
        self.changed();
        for (name, slot) in old.slots() {
            if !next.get(name).is_some_and(|kept| Arc::ptr_eq(kept, slot)) {
                self.retire(slot.clone());
            }
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
        needed.extend(self.active().slots().values().map(|slot| slot.digest.clone()));
        let (components, engine) = (self.components.clone(), self.setup.engine.clone());
        blocking(move || {
            components.collect(&|digest| needed.contains(digest));
            engine.collect(&|digest| needed.contains(digest), leftovers);
        })
        .await
    }
}

fn flatten<T>(
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

fn no_version(name: &str, number: Option<u64>, kept: &[Record]) -> String {
    let kept: Vec<String> = kept.iter().map(|record| record.number.to_string()).collect();
    match number {
        _ if kept.is_empty() => format!("there is no plugin `{name}`, and there never was one"),
        Some(number) => {
            format!("plugin `{name}` has no version {number}; kept are {}", kept.join(", "))
        }
        None => format!("plugin `{name}` has no version before the active one"),
    }
}
