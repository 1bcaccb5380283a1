//! The deployment that serves: one immutable value.
//!
//! Owns what a request needs to find its plugin: the routes, and for each plugin the one version that they
//! lead to. A deployment never changes once it is active; a switch puts another in its place. The danger that
//! shaped it: a request that finds its route in one deployment and its plugin, its cache or its auth plugin in
//! the next. So a request takes the deployment once, and goes through it with what it took.

use crate::cache::Partition;
use crate::config::Plugin;
use crate::engine::Version;
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
    ) -> Arc<Self> {
        Arc::new(Self {
            plugin,
            number,
            digest,
            cache,
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
}

/// What serves.
pub struct Active {
    sequence: u64,
    router: Router<Target>,
    slots: BTreeMap<String, Arc<Slot>>,
}

impl Active {
    /// The deployment with this number, made of these versions.
    ///
    /// # Errors
    /// Two plugins want the same route.
    pub(super) fn new(
        sequence: u64,
        slots: BTreeMap<String, Arc<Slot>>,
    ) -> Result<Arc<Self>, Conflict> {
        let routes = slots.values().flat_map(|slot| {
            slot.plugin
                .routes
                .iter()
                .map(|route| (route.clone(), Target { slot: slot.clone(), room: route.room }))
        });
        let router = Router::new(routes)?;
        Ok(Arc::new(Self { sequence, router, slots }))
    }

    /// Its number: each switch, a rollback too, makes the next.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where a request goes.
    pub fn find(&self, method: &Method, host: Option<&str>, path: &str) -> Found<'_, Target> {
        self.router.find(method, host, path)
    }

    /// All plugins by name.
    pub fn slots(&self) -> &BTreeMap<String, Arc<Slot>> {
        &self.slots
    }

    /// One plugin.
    pub fn get(&self, name: &str) -> Option<&Arc<Slot>> {
        self.slots.get(name)
    }
}
