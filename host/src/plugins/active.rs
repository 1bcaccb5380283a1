//! The deployment that serves: one immutable value.
//!
//! Owns what a request needs to find its plugin: the routes, and for each plugin the one version that they
//! lead to, or the two of which `canary` chooses. A deployment never changes once it is active; a switch puts another in its place. The danger that
//! shaped it: a request that finds its route in one deployment and its plugin, its cache or its auth plugin in
//! the next. So a request takes the deployment once, and goes through it with what it took.

use super::canary::Canary;
use super::records::{Pointer, RolledBack, Share, now};
use crate::answers::Answers;
use crate::cache::Partition;
use crate::config::Plugin;
use crate::engine::{Version, Watch};
use crate::routing::{Conflict, Found, Router};
use arc_swap::ArcSwapOption;
use http::Method;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// A plugin's place in a deployment: one version of it.
///
/// Deployments that differ in other plugins share it, and with it the instances that wait and the cache.
pub struct Slot {
    /// Its configuration.
    pub plugin: Arc<Plugin>,
    /// The number of the version, from 1 for each plugin.
    pub number: u64,
    /// SHA-256 of the component.
    pub digest: String,
    /// Its part of the response cache, when it has one.
    pub cache: Option<Partition>,
    /// Who looks how it does, when it begins as a canary.
    pub(super) watch: Option<Arc<Watch>>,
    /// What clients were answered, by all versions of the plugin.
    pub answers: Arc<Answers>,
    loaded: ArcSwapOption<Version>,
    state: parking_lot::Mutex<State>,
}

impl Slot {
    /// A version whose component is not loaded yet.
    pub(super) fn new(
        plugin: Arc<Plugin>,
        number: u64,
        digest: String,
        cache: Option<Partition>,
        watch: Option<Arc<Watch>>,
        answers: Arc<Answers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            plugin,
            number,
            digest,
            cache,
            watch,
            answers,
            loaded: ArcSwapOption::empty(),
            state: parking_lot::Mutex::new(State::Compiling),
        })
    }

    /// The loaded version; none while its component is being compiled.
    pub fn active(&self) -> Option<Arc<Version>> {
        self.loaded.load_full()
    }

    /// What the plugin is doing.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    pub(super) fn activate(&self, version: Arc<Version>) {
        if let Some(watch) = &self.watch {
            version.watched_by(watch);
        }
        self.loaded.store(Some(version));
        *self.state.lock() = State::Serving;
    }

    /// Lets go of the loaded version: nobody new gets it.
    pub(super) fn unload(&self) {
        self.loaded.store(None);
    }

    pub(super) fn fail(&self, reason: String) {
        *self.state.lock() = State::Failed(reason);
    }
}

/// Where a route leads.
#[derive(Clone)]
pub struct Target {
    /// The plugin's place.
    pub slot: Arc<Slot>,
    /// Which segment of the path is the name of a room, if it leads to rooms.
    pub room: Option<usize>,
    /// Another version of the plugin that serves some of the callers.
    pub canary: Option<Arc<Canary>>,
}

/// What a deployment is made of.
#[derive(Clone, Default)]
pub(super) struct Places {
    pub(super) slots: BTreeMap<String, Arc<Slot>>,
    pub(super) canaries: BTreeMap<String, Arc<Canary>>,
    pub(super) rolled_back: BTreeMap<String, RolledBack>,
}

/// What serves.
pub struct Active {
    sequence: u64,
    router: Router<Target>,
    places: Places,
}

impl Active {
    /// The deployment with this number, made of these versions.
    ///
    /// # Errors
    /// Two plugins want the same route.
    pub(super) fn new(sequence: u64, places: Places) -> Result<Arc<Self>, Conflict> {
        let routes = places.slots.iter().flat_map(|(name, slot)| {
            let canary = places.canaries.get(name);
            slot.plugin.routes.iter().map(move |route| {
                let (slot, canary) = (slot.clone(), canary.cloned());
                (route.clone(), Target { slot, room: route.room, canary })
            })
        });
        let router = Router::new(routes)?;
        Ok(Arc::new(Self { sequence, router, places }))
    }

    /// Its number: each switch, a rollback too, makes the next.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where a request goes.
    pub fn find(&self, method: &Method, host: Option<&str>, path: &str) -> Found<'_, Target> {
        self.router.find(method, host, path)
    }

    /// All plugins by name: the version that serves all callers, or those who get no canary.
    pub fn slots(&self) -> &BTreeMap<String, Arc<Slot>> {
        &self.places.slots
    }

    /// One plugin.
    pub fn get(&self, name: &str) -> Option<&Arc<Slot>> {
        self.places.slots.get(name)
    }

    /// All canaries by the names of their plugins.
    pub fn canaries(&self) -> &BTreeMap<String, Arc<Canary>> {
        &self.places.canaries
    }

    /// The canary of one plugin.
    pub fn canary(&self, name: &str) -> Option<&Arc<Canary>> {
        self.places.canaries.get(name)
    }

    /// The last canary of a plugin that was taken back by itself.
    pub fn rolled_back(&self, name: &str) -> Option<&RolledBack> {
        self.places.rolled_back.get(name)
    }

    /// The versions of one plugin that serve.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Arc<Slot>> {
        self.get(name).into_iter().chain(self.canary(name).map(|canary| &canary.slot))
    }

    /// All versions that serve.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots().values().chain(self.canaries().values().map(|canary| &canary.slot))
    }

    /// What the next deployment starts from.
    pub(super) fn places(&self) -> Places {
        self.places.clone()
    }

    /// As it is kept.
    pub(super) fn pointer(&self) -> Pointer {
        let share = |canary: &Canary| Share {
            version: canary.slot.number,
            percent: canary.percent,
            since: canary.since,
        };
        let shares = self.canaries().iter().map(|(name, canary)| (name.clone(), share(canary)));
        Pointer {
            sequence: self.sequence,
            at: now(),
            plugins: self.slots().iter().map(|(name, slot)| (name.clone(), slot.number)).collect(),
            canaries: shares.collect(),
            rolled_back: self.places.rolled_back.clone(),
        }
    }
}
