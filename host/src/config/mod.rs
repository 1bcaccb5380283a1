//! `guesthouse.toml` as a validated, typed value.
//!
//! Owns the names, defaults and bounds of everything that an operator can set. It never touches the
//! network or starts anything: a configuration that is wrong is refused whole, with file, line and
//! suggestion, before the house opens a door. The danger that shaped it: a typing error that silently
//! switches a protection off.

mod callers;
mod diagnostics;
pub mod fetch;
mod load;
mod plugin;
mod reader;
mod rooms;
pub(crate) mod route;
pub mod secrets;
mod turn;
mod values;
mod variables;

pub use callers::{Auth, AuthMode, DEV_SETTINGS, Network, Quota};
pub use diagnostics::{ConfigErrors, Problem};
pub use rooms::{Origins, Rooms};
pub use route::RoutePattern;
pub use turn::{Turn, TurnListen, TurnTransport};
pub use values::{duration, percent};

use http::StatusCode;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole configuration. Every path is absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from.
    pub file: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[storage]`
    pub storage: Storage,
    /// `[engine]`
    pub engine: Engine,
    /// `[cache]`
    pub cache: Cache,
    /// `[fetch]`
    pub fetch: fetch::Fetch,
    /// `[auth]`
    pub auth: Auth,
    /// Everything but the plugins as it was written: what takes effect at a start and only then.
    pub house: serde_json::Map<String, serde_json::Value>,
    /// `[turn]`
    pub turn: Turn,
    /// `[plugins.NAME]`, in the order of their names.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
}

/// `[server]`: the doors.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where clients connect. Default 127.0.0.1:8787; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the operator connects. Default 127.0.0.1:8788.
    pub admin: SocketAddr,
    /// Serving threads; default: one for each core that the process may use.
    pub threads: Option<usize>,
    /// How long running responses may take to finish at shutdown. Default 30 s.
    pub drain: Duration,
    /// How long requests may go on with a version that another has replaced. Default 5 min.
    pub swap_drain: Duration,
    /// How long a client may take to send the head of a request. Default 10 s.
    pub header_timeout: Duration,
    /// How long a client may send or take nothing in the middle of a body. Default 60 s.
    pub idle_timeout: Duration,
    /// How long what a client goes on sending is thrown away before its connection is closed. Default 5 s.
    pub linger: Duration,
    /// Bytes that are thrown away so, at most. Default 64 MiB.
    pub linger_bytes: u64,
    /// Bytes of a request's head. Default 64 KiB.
    pub max_head: usize,
    /// Header fields of a request. Default 100.
    pub max_headers: usize,
    /// Connections at a time. Default 10,000.
    pub max_connections: usize,
    /// Whether each request gets a line on standard error. Default true.
    pub access_log: bool,
    /// Whose `X-Forwarded-For` is believed. Default: nobody's.
    pub trusted_proxies: Vec<Network>,
}

/// `[storage]`
#[derive(Clone, Debug)]
pub struct Storage {
    /// When a write counts as kept.
    pub durability: Durability,
    /// Largest value in bytes. Default 25 MiB.
    pub max_value: u64,
    /// Largest page of a listing. Default 1000, which is also the most.
    pub max_list: u32,
    /// Bytes of memory for blocks read from disk. Default 64 MiB.
    pub block_cache: u64,
}

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: one `fsync` for each group of writes.
    Fsync,
    /// `kill -9` of the process, not power loss.
    Process,
}

/// `[engine]`: what all plugins share.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Instances of all plugins at a time. Default 1000.
    pub max_instances: u32,
    /// Bytes of linear memory and tables of all instances together; one plugin gets half. Default: half of the
    /// machine's memory, or of the container's.
    pub memory: Option<u64>,
    /// Whether to reserve memory for instances ahead of time. Default: probe.
    pub pooling: Pooling,
    /// How deep plugins may call each other. Default 8.
    pub call_depth: u32,
    /// Threads of the slow lane. Default: one for each serving thread.
    pub slow_threads: Option<usize>,
    /// How long compiling one component may take. Default 2 min.
    pub compile_timeout: Duration,
    /// Bytes of memory that compiling one component may take. Default 2 GiB.
    pub compile_memory: u64,
}

/// `engine.pooling`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// If the address space can be reserved.
    Auto,
    /// Or refuse to start.
    On,
    /// Never.
    Off,
}

/// `[cache]`: the shared response cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Bytes in all. Default 64 MiB; 0 switches the cache off.
    pub max_bytes: u64,
    /// Largest response to keep. Default 8 MiB.
    pub max_entry: u64,
}

/// `[plugins.NAME]`
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The name in the table's header.
    pub name: String,
    /// The component's file.
    pub component: PathBuf,
    /// The SHA-256 that the component must have, in hexadecimal digits.
    pub digest: Option<String>,
    /// What a new version must answer to, with less than 500, before it takes over.
    pub health: Option<String>,
    /// The table as it was written, without `component` and `digest`: what a version is remembered by, and
    /// compared with.
    pub table: serde_json::Map<String, serde_json::Value>,
    /// What is routed here, as written and checked; those of its rooms too.
    pub routes: Vec<RoutePattern>,
    /// Namespaces: `default` is the plugin's own, any other name is the house's.
    pub kv: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Where it may send requests, the narrowest destination first.
    pub fetch: Vec<fetch::FetchGrant>,
    /// Plugins that it may call.
    pub calls: Vec<String>,
    /// Plugins whose rooms it may call.
    pub peers: Vec<String>,
    /// What `wasi:config/store` gives.
    pub config: BTreeMap<String, String>,
    /// Whether callers are verified.
    pub auth: Option<AuthMode>,
    /// Whether a browser's preflight reaches it without a caller, where callers are required.
    pub preflight: bool,
    /// Requests that one caller may make.
    pub rate: Option<Quota>,
    /// Tokens that one caller may spend.
    pub budget: Option<Quota>,
    /// Whether the shared response cache stands in front.
    pub cache: bool,
    /// Its rooms, if it has any.
    pub rooms: Option<Rooms>,
    /// How instances are used.
    pub instances: Instances,
    /// What a request may use up.
    pub limits: Limits,
    /// The 4xx with which a request is answered that used up the plugin's stack, and then it does not count for the
    /// breaker. Default: that is a trap like any other, 500.
    pub stack_overflow: Option<StatusCode>,
    /// When the plugin is left alone for a while.
    pub breaker: Breaker,
    /// When a canary of it is taken back.
    pub canary: Canary,
}

/// `instances = { reuse, concurrent }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instances {
    /// Requests that one instance serves before it is replaced; 1 = a fresh one for each. Default 1.
    pub reuse: u32,
    /// Requests that one instance serves at a time (wasi:http 0.3 only). Default 1.
    pub concurrent: u32,
    /// How long an instance may wait for its next request. Default 10 s.
    pub idle: Duration,
}

/// `limits = { … }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of one instance. Default 128 MiB.
    pub memory: u64,
    /// CPU time of one request. Default 10 s.
    pub cpu: Duration,
    /// Time from the arrival of a request to the end of its response. Default 60 s.
    pub wall: Duration,
    /// Bytes of a request body. Default 32 MiB.
    pub body: u64,
    /// Bytes of the header fields of a response (and of any fields object in the guest). Default 128 KiB.
    pub headers: usize,
    /// Requests at a time. Default 64.
    pub concurrency: u32,
    /// Requests that may wait for one of those. Default 256.
    pub queue: u32,
    /// Outbound requests at a time, to the end of their responses. Default 64.
    pub outbound: u32,
    /// Bytes of the body of an outbound request. Default 32 MiB.
    pub outbound_request: u64,
    /// Bytes of the body of a response to it. Default 256 MiB.
    pub outbound_response: u64,
    /// Time to resolve, connect and agree on TLS. Default 10 s.
    pub outbound_connect: Duration,
    /// Time from the last byte of the request to the head of the response. Default 120 s.
    pub outbound_first_byte: Duration,
    /// Time between bytes of a response. Default 60 s.
    pub outbound_idle: Duration,
    /// Time for a call of another room. Default 10 s.
    pub peer_call: Duration,
    /// Lines that the plugin may print in a second; as many are written about its failures, and about its
    /// outbound requests. Default 1000.
    pub log: u32,
}

/// `breaker = { … }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row after which requests are refused for a while; 0 switches it off. Default 10.
    pub failures: u32,
    /// How long they are refused at first. Default 1 s.
    pub backoff: Duration,
    /// The pause doubles with each failed try, up to this. Default 30 s.
    pub max_backoff: Duration,
}

/// `canary = { … }`: when a version that serves a share of the callers is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Of a hundred answers so many may be 5xx, and so many may be traps. Default 5; 100 never takes it back.
    pub errors: u8,
    /// Answers before it is judged. Default 20.
    pub least: u32,
    /// The last answers, by which it is judged. Default 200.
    pub window: u32,
}

/// The most instances that may be configured: beyond, the address space does not suffice.
pub const MOST_INSTANCES: u32 = 4000;

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8788)),
            threads: None,
            drain: Duration::from_secs(30),
            swap_drain: Duration::from_secs(300),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(5),
            linger_bytes: 64 << 20,
            max_head: 64 << 10,
            max_headers: 100,
            max_connections: 10_000,
            access_log: true,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            max_value: 25 << 20,
            max_list: 1000,
            block_cache: 64 << 20,
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            max_instances: 1000,
            memory: None,
            pooling: Pooling::Auto,
            call_depth: 8,
            slow_threads: None,
            compile_timeout: Duration::from_secs(120),
            compile_memory: 2 << 30,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_entry: 8 << 20 }
    }
}

impl Default for Instances {
    fn default() -> Self {
        Self { reuse: 1, concurrent: 1, idle: Duration::from_secs(10) }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(30) }
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self { errors: 5, least: 20, window: 200 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 128 << 20,
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(60),
            body: 32 << 20,
            headers: 128 << 10,
            concurrency: 64,
            queue: 256,
            outbound: 64,
            outbound_request: 32 << 20,
            outbound_response: 256 << 20,
            outbound_connect: Duration::from_secs(10),
            outbound_first_byte: Duration::from_secs(120),
            outbound_idle: Duration::from_secs(60),
            peer_call: Duration::from_secs(10),
            log: 1000,
        }
    }
}
