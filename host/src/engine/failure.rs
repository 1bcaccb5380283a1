//! Why a plugin gave no answer.
//!
//! Owns the list of what can go wrong between the arrival of a request at a plugin and its answer, with
//! the knob for each. What the client may know of it is decided in one other place, by the server.

use http::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Why a plugin gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The guest trapped; the text has the wasm backtrace and is for the operator alone.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The guest used up its stack, and the operator has said that this is the request's fault.
    #[error(
        "the plugin used up its stack, as a parser does when a request is nested deeply \
         (stack_overflow = {})", .0.as_u16()
    )]
    Stack(StatusCode),
    /// The guest used up its CPU time.
    #[error("the plugin used up its CPU time of {0:?} (limits.cpu)")]
    Cpu(Duration),
    /// The guest took too long.
    #[error("the plugin took longer than {0:?} (limits.wall)")]
    Wall(Duration),
    /// The guest asked for more memory than it may have and trapped.
    #[error("the plugin reached its memory cap of {0} bytes (limits.memory)")]
    Memory(u64),
    /// All instances of the plugin together, or of the house, have what they may have.
    #[error(
        "the plugin could have no more memory: all instances have engine.memory together, and those of one \
         plugin half of it"
    )]
    MemoryOfAll,
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
    /// The turn of a call from another plugin did not come in time.
    #[error(
        "no place of the plugin came free within {0:?} for the call of another plugin (limits.concurrency \
         of this plugin, limits.outbound_connect of the other; a call that came through this plugin \
         before does not wait)"
    )]
    NoTurn(Duration),
    /// The host could not make an instance.
    #[error("no instance could be made: {0}")]
    Instance(String),
    /// The instances of the house are taken, in spite of the queue: the plugin's are larger than most.
    #[error("the house has no place for another instance (engine.max_instances): {0}")]
    NoPlace(String),
    /// The plugin failed so often in a row that it is left alone for a while.
    #[error("the plugin failed too often in a row and is not asked for {after:?} (breaker)")]
    Broken {
        /// Until it is tried again.
        after: Duration,
    },
    /// The request began with a version that another has replaced, and did not end in time.
    #[error(
        "the version was replaced while the request ran, and {0:?} later the request was cut \
         (server.swap_drain)"
    )]
    Replaced(Duration),
    /// The host or a worker went away; seen at shutdown.
    #[error("the request was dropped")]
    Dropped,
}

/// Failures by their reason, for whoever looks.
#[derive(Debug, Default)]
pub struct Reasons([AtomicU64; REASONS.len()]);

const REASONS: [&str; 8] =
    ["trap", "stack", "cpu", "wall", "memory", "instance", "replaced", "other"];

impl Reasons {
    pub(super) fn count(&self, failure: &Failure) {
        let reason = failure.reason();
        let counts = REASONS.iter().zip(&self.0);
        if let Some((_, count)) = counts.into_iter().find(|(known, _)| **known == reason) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Each reason, and how often it was one.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

impl Failure {
    /// In one word.
    fn reason(&self) -> &'static str {
        match self {
            Self::Trapped(_) => "trap",
            Self::Stack(_) => "stack",
            Self::Cpu(_) => "cpu",
            Self::Wall(_) => "wall",
            Self::Memory(_) | Self::MemoryOfAll => "memory",
            Self::Instance(_) | Self::NoPlace(_) => "instance",
            Self::Replaced(_) => "replaced",
            Self::Silent
            | Self::GaveUp(_)
            | Self::QueueFull { .. }
            | Self::NoTurn(_)
            | Self::Broken { .. }
            | Self::Dropped => "other",
        }
    }

    /// Whether the plugin did it to itself, so that it counts for its circuit breaker.
    pub(crate) fn is_own_fault(&self) -> bool {
        match self {
            Self::Trapped(_)
            | Self::Cpu(_)
            | Self::Memory(_)
            | Self::MemoryOfAll
            | Self::Silent
            | Self::Instance(_) => true,
            Self::Stack(_)
            | Self::Wall(_)
            | Self::GaveUp(_)
            | Self::QueueFull { .. }
            | Self::NoTurn(_)
            | Self::NoPlace(_)
            | Self::Broken { .. }
            | Self::Replaced(_)
            | Self::Dropped => false,
        }
    }

    /// Whether a canary whose answer this is does worse than it should.
    pub(crate) fn is_bad_answer(&self) -> bool {
        !matches!(self, Self::Stack(_))
    }

    /// How a guest's export ended that did not return. `on_overflow` is `stack_overflow` of its plugin.
    pub(super) fn of_trap(error: &wasmtime::Error, on_overflow: Option<StatusCode>) -> Self {
        match (error.downcast_ref(), on_overflow) {
            (Some(wasmtime::Trap::StackOverflow), Some(status)) => Self::Stack(status),
            _ => Self::Trapped(format!("{error:?}")),
        }
    }

    /// What a failed instantiation was: the guest's start function trapped, the pool is full, or the
    /// component can't be instantiated at all.
    pub(super) fn of_instantiation(error: &wasmtime::Error) -> Self {
        if error.is::<wasmtime::Trap>() {
            Self::Trapped(format!("{error:?}"))
        } else if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            Self::NoPlace(format!("{error:#}"))
        } else {
            Self::Instance(format!("{error:?}"))
        }
    }
}
