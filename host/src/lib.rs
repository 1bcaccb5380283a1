//! Guesthouse: a plugin host. One binary loads WebAssembly components, gives each exactly what it
//! was granted, routes traffic to them, and lets an operator replace any of them.
//!
//! Data flows one way through the modules, in the order in which they stand here: a module may use
//! those below it and never one above.

pub mod cli;
pub mod admin;
pub mod server;
pub mod routing;
pub mod cache;
pub mod plugins;
pub mod engine;
pub mod capabilities;
pub mod storage;
pub mod config;
pub mod body;
