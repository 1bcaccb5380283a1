//! The engine: wasmtime, and the rules under which guests run in it.
//!
//! Owns compiling, linking, instances, deadlines and limits. It never reads a request's meaning and never
//! touches a socket. A guest is hostile until proven otherwise: whatever it does, the thread it runs on
//! must come back.
//!
//! | file | owns |
//! |---|---|
//! | `settings` | the one place of wasmtime's `Config`, and the two engines |
//! | `artifact` | compiled components on disk |
//! | `compiler` | compiling, in a process of its own |
//! | `state` | what belongs to one instance |
//! | `leaving` | what leaves it, and when |
//! | `meter` | CPU time and its deadline |
//! | `lane` | the fast and the slow lane |
//! | `admission` | places and the queue in front of them |
//! | `breaker` | leaving a plugin alone that fails again and again |
//! | `version` | a component ready to serve |
//! | `watch` | how it does as a canary |
//! | `idle` | its instances between two requests |
//! | `answer` | the way of an answer to its request |
//! | `sequential`, `concurrent` | wasi:http 0.2 and 0.3 |
//! | `client` | `wasi:http/client` 0.3: for whom a request is made |
//! | `room` | calls into rooms |
//! | `verifying` | the verifier of an auth plugin |
//! | `output` | what guests print |
//! | `quota` | lines and memory of all instances together |
//! | `failure` | why there was no answer |

mod admission;
mod answer;
pub mod artifact;
mod breaker;
mod client;
pub mod compiler;
mod concurrent;
mod failure;
mod idle;
mod lane;
mod leaving;
mod meter;
mod output;
mod processor;
mod quota;
mod room;
mod sequential;
mod settings;
mod state;
mod verifying;
mod version;
mod watch;

pub use breaker::BreakerStatus;
pub(crate) use breaker::{Breaker, Change, Ticket};
pub use failure::{Failure, Reasons};
pub use lane::Lane;
pub use room::{Call, Returned, RoomInstance};
pub use settings::Decisions;
pub use verifying::Verdict;
pub use version::Version;
pub use watch::{Tally, Watch};

use crate::capabilities::fetch::{self, Calls, FetchGrants, Network, Party};
use crate::capabilities::kv::{self, KvGrants};
use crate::capabilities::peers::{self, PeerGrants};
use crate::capabilities::rooms;
use crate::capabilities::secrets::{self, SecretGrants};
use crate::capabilities::settings::{self as config_store, HostSettings, Settings};
use crate::capabilities::{budget, identity};
use crate::config;
use crate::line_quota::LineQuota;
use crate::rooms::Doorway;
use crate::storage::Store;
use admission::Admission;
use artifact::{ArtifactError, Artifacts};
use compiler::Compiler;
use concurrent::Concurrent;
use guesthouse_bindings::called::CalledPre;
use idle::IdleCount;
use lane::SlowLane;
use quota::MemoryQuota;
use room::RoomGuest;
use sequential::Sequential;
use settings::Engines;
use state::{Context, State};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::Semaphore;
use verifying::Verifying;
use version::Kind;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// Why a component was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be compiled or kept.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// It does not export a handler.
    #[error(
        "it exports neither wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3, so there is nothing to \
         route requests to"
    )]
    NoHandler,
    /// Rooms were asked for, and it has none.
    #[error(
        "it does not export guesthouse:rooms/room@0.1.0, so it can't have `rooms`: remove the line from its \
         table, or build the component with rooms (wit/rooms.wit)"
    )]
    NoRooms,
    /// It does not fit what the host links, in a way that wasmtime describes.
    #[error("it can't be linked: {0}")]
    Link(String),
}

/// Everything that is made once for the house.
pub struct Engine {
    /// For components without concurrency.
    sequential: Linker<State>,
    /// For those with.
    concurrent: Linker<State>,
    artifacts: Artifacts,
    compiler: Compiler,
    compilations: AtomicU64,
    decisions: Decisions,
    slow: Arc<SlowLane>,
    places: Arc<Semaphore>,
    memory: MemoryQuota,
    idle: Arc<IdleCount>,
    network: Arc<Network>,
    party: Arc<Party>,
    call_depth: u32,
    doorway: Arc<Doorway>,
    fast_threads: usize,
    /// What the house itself tells a plugin.
    told: HostSettings,
}

impl Engine {
    /// Starts the engine: probes the machine, links the capabilities, starts the ticker and the slow lane.
    ///
    /// # Errors
    /// The machine lacks what is needed, or the data folder can't be used.
    pub fn start(
        settings: &config::Engine,
        outbound: &config::fetch::Fetch,
        fast_threads: usize,
        data: &Path,
        told: HostSettings,
    ) -> anyhow::Result<Arc<Self>> {
        let (engines, decisions) = settings::engines(settings).map_err(anyhow::Error::from)?;
        let Engines { sequential, concurrent } = engines;
        let artifacts = Artifacts::open(data, [sequential.clone(), concurrent.clone()])?;
        meter::start_ticker([&sequential, &concurrent])?;
        let sequential = link(&sequential).map_err(anyhow::Error::from)?;
        let mut concurrent = link(&concurrent).map_err(anyhow::Error::from)?;
        link_concurrent(&mut concurrent).map_err(anyhow::Error::from)?;
        let slow = SlowLane::start(settings.slow_threads.unwrap_or(fast_threads))?;
        let most = settings.max_instances as usize;
        Ok(Arc::new(Self {
            sequential,
            concurrent,
            artifacts,
            compiler: Compiler {
                timeout: settings.compile_timeout,
                memory: settings.compile_memory,
            },
            compilations: AtomicU64::new(0),
            decisions,
            slow,
            places: Arc::new(Semaphore::new(most)),
            memory: MemoryQuota::new(settings.memory.unwrap_or_else(quota::half_of_the_machine)),
            idle: Arc::new(IdleCount::new(most)),
            network: Network::new(outbound),
            party: Arc::default(),
            call_depth: settings.call_depth,
            doorway: Arc::default(),
            fast_threads,
            told,
        }))
    }

    /// What was decided at boot.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The way out of the house.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// How plugins reach each other.
    pub fn party(&self) -> &Arc<Party> {
        &self.party
    }

    /// Where plugins look for rooms.
    pub fn doorway(&self) -> &Doorway {
        &self.doorway
    }

    /// The compiled component, if it is there.
    pub fn ready(&self, digest: &str) -> Option<Component> {
        self.artifacts.load(digest)
    }

    /// Compiles the component in this file, in a process of its own; slow.
    ///
    /// # Errors
    /// As [`Artifacts::keep`].
    pub fn compile(&self, digest: &str, wasm: &Path) -> Result<Component, LoadError> {
        self.compilations.fetch_add(1, Relaxed);
        let keys = self.artifacts.keys();
        let compile = |code: &Path| self.compiler.compile(wasm, code, keys);
        Ok(self.artifacts.keep(digest, compile)?)
    }

    /// How many components were compiled since the start.
    pub fn compilations(&self) -> u64 {
        self.compilations.load(Relaxed)
    }

    /// As [`Artifacts::collect`].
    pub fn collect(&self, needed: &dyn Fn(&str) -> bool, leftovers: bool) {
        self.artifacts.collect(needed, leftovers);
    }

    /// Links, and makes the version that serves. The grants were checked before.
    ///
    /// # Errors
    /// What [`LoadError`] lists.
    #[allow(clippy::too_many_arguments, reason = "each is a part of what a version is")]
    pub fn load(
        &self,
        plugin: &Arc<config::Plugin>,
        number: u64,
        component: &Component,
        digest: &str,
        size: u64,
        secrets: SecretGrants,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Version>, LoadError> {
        let refuse = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let linker = if wasmtime::Engine::same(component.engine(), self.sequential.engine()) {
            &self.sequential
        } else {
            &self.concurrent
        };
        let pre = linker.instantiate_pre(component).map_err(refuse)?;
        let room = RoomGuest::of(pre.clone());
        if plugin.rooms.is_some() && room.is_none() {
            return Err(LoadError::NoRooms);
        }
        let verifying = CalledPre::new(pre.clone())
            .ok()
            .map(|pre| Verifying::new(pre, self.fast_threads, self.idle.clone()));
        let kind = if let Ok(pre) = ProxyPre::new(pre.clone()) {
            Kind::Sequential(Sequential::new(pre))
        } else if let Ok(pre) = ServicePre::new(pre) {
            Kind::Concurrent(Concurrent::new(pre, self.fast_threads))
        } else if room.is_some() && plugin.routes.iter().all(|route| route.room.is_some()) {
            Kind::RoomsOnly
        } else {
            return Err(LoadError::NoHandler);
        };
        let context = Arc::new(Context {
            name: plugin.name.as_str().into(),
            kv: KvGrants::new(&plugin.name, &plugin.kv),
            settings: Settings::new(&plugin.name, plugin.config.clone(), &self.told),
            fetch: FetchGrants::new(
                &plugin.name,
                &plugin.fetch,
                secrets.injected(),
                plugin.limits,
                &self.network,
                Calls::new(&plugin.calls, self.call_depth, &self.party),
            ),
            secrets,
            peers: PeerGrants::new(
                &plugin.name,
                &plugin.peers,
                &self.doorway,
                plugin.limits.peer_call,
            ),
            store,
            memory: plugin.limits.memory,
            memory_of_all: self.memory.of_plugin(),
            lines: LineQuota::new(plugin.limits.log),
            reports: LineQuota::new(plugin.limits.log),
            headers: plugin.limits.headers,
        });
        Ok(Version::new(
            plugin.clone(),
            number,
            digest.to_owned(),
            size,
            context,
            component.engine().clone(),
            kind,
            room,
            verifying,
            Admission::new(plugin.limits, self.places.clone()),
            self.slow.clone(),
            self.fast_threads,
            self.idle.clone(),
        ))
    }
}

/// The *link* moment of every capability.
fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine);
    // All of WASI, with nothing behind it: components of languages with a big runtime import sockets
    // and files whether they use them or not.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    kv::add_to_linker(&mut linker, State::kv)?;
    config_store::add_to_linker(&mut linker, State::settings)?;
    secrets::add_to_linker(&mut linker, State::secrets)?;
    fetch::add_to_linker(&mut linker, State::fetch)?;
    rooms::add_to_linker(&mut linker, State::room)?;
    peers::add_to_linker(&mut linker, State::peers)?;
    identity::add_to_linker(&mut linker, State::callers)?;
    budget::add_to_linker(&mut linker, State::callers)?;
    Ok(linker)
}

/// What only an engine with concurrency can link: WASI 0.3.
fn link_concurrent(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    client::add_to_linker(linker)
}
