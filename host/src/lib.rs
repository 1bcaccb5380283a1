//! Guesthouse: a plugin host. One binary loads WebAssembly components, gives each exactly what it
//! was granted, routes traffic to them, and lets an operator replace any of them.
//!
//! Data flows one way through the modules, top to bottom in this list: a module may use those below it and
//! never one above.
//!
//! | module | owns |
//! |---|---|
//! | `cli` | the commands |
//! | `admin` | the operator's API |
//! | `server` | the doors for clients, and a request's way through the house |
//! | `auth`, `quota` | who a client is, and what it may use up |
//! | `rooms` | durable actors and their sockets |
//! | `turn` | the relay for WebRTC |
//! | `routing`, `cache` | which plugin a request is for; responses that are shared |
//! | `plugins` | versions, deployments, what is active |
//! | `engine` | wasmtime, and the rules under which guests run |
//! | `capabilities` | what a guest can be granted, a file an interface |
//! | `config` | guesthouse.toml, typed |
//! | `storage` | where data lives |
//! | `answers`, `body`, `headers`, `fault`, `line_quota` | small things that several share |

pub mod admin;
pub mod answers;
pub mod auth;
pub mod body;
pub mod cache;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod engine;
mod fault;
pub mod headers;
mod line_quota;
pub mod log;
pub mod plugins;
pub mod quota;
pub mod rooms;
pub mod routing;
pub mod server;
pub mod storage;
pub mod turn;
