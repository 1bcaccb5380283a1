//! Why a plugin gave no answer.
//!
//! Owns the list of what can go wrong between the arrival of a request at a plugin and its answer, with
//! the knob for each. What the client may know of it is decided in one other place, by the server.

use std::time::Duration;

/// Why a plugin gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The guest trapped; the text has the wasm backtrace and is for the operator alone.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The guest used up its CPU time.
    #[error("the plugin used up its CPU time of {0:?} (limits.cpu)")]
    Cpu(Duration),
    /// The guest took too long.
    #[error("the plugin took longer than {0:?} (limits.wall)")]
    Wall(Duration),
    /// The guest asked for more memory than it may have and trapped.
    #[error("the plugin reached its memory cap of {0} bytes (limits.memory)")]
    Memory(u64),
    /// The guest returned without an answer.
    #[error("the plugin ended without giving a response")]
    Silent,
    /// The guest answered with an error code of wasi:http.
    #[error("the plugin gave up with the error code {0}")]
    GaveUp(String),
    /// No instance was free and the queue is full.
    #[error(
        "all {concurrency} places of the plugin are taken and {queue} requests wait \
         (limits.concurrency, limits.queue)"
    )]
    QueueFull {
        /// `limits.concurrency`
        concurrency: u32,
        /// `limits.queue`
        queue: u32,
    },
    /// The host could not make an instance.
    #[error("no instance could be made: {0}")]
    Instance(String),
    /// The host or a worker went away; seen at shutdown.
    #[error("the request was dropped")]
    Dropped,
}
