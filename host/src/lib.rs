//! Guesthouse: a plugin host. One binary loads WebAssembly components, gives each exactly what it
//! was granted, routes traffic to them, and lets an operator replace any of them.
//!
//! Data flows one way through the modules, in the order in which they stand here: a module may use
//! those below it and never one above.

pub mod admin;
pub mod auth;
pub mod body;
pub mod cache;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod engine;
mod fault;
pub mod headers;
pub mod plugins;
pub mod quota;
pub mod rooms;
pub mod routing;
pub mod server;
pub mod storage;
