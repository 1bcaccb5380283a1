//! The one place where wasmtime's `Config` is made.
//!
//! Owns every setting that compiled code depends on. It must stay the only constructor: code compiled
//! under one `Config` is refused under another, and a second constructor would silently turn each start
//! into a recompilation. The other danger that shaped it: a setting that helps on one kernel and hurts
//! on the next, hence probing, and [`Decisions`] that say what was found.
//!
//! There are two engines, which differ in one setting. Support for the component model's concurrency (WASI
//! 0.3) keeps books of tasks at every call and every instantiation, also for components that don't use it; so
//! those run in an engine without it, and each component is compiled for the one that it needs.

use crate::config;
use std::fmt;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

/// How many instances of core modules one component instance may be made of, on average over the
/// house. Components of Go have five; those of Rust three or four.
const CORE_INSTANCES_EACH: u32 = 6;
/// Tables, likewise. Components that link dynamically (Python) have several.
const TABLES_EACH: u32 = 4;
/// Linear memories, likewise.
const MEMORIES_EACH: u32 = 2;
/// Entries of one table. wasmtime's own limit of 20,000 is too small for the JavaScript and Python
/// runtimes.
const TABLE_ELEMENTS: usize = 100_000;
/// How much of an instance's memory stays mapped for the next one, when the kernel can tell which of
/// its pages were touched. Without that, clearing so much would cost more than mapping it anew.
const KEEP_RESIDENT_SCANNED: usize = 2 << 20;
/// The same when the kernel can't tell.
const KEEP_RESIDENT_BLIND: usize = 64 << 10;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// Stack of a guest, host frames included, and the part of it that wasm may use.
const ASYNC_STACK: usize = 1 << 20;
const WASM_STACK: usize = 512 << 10;

/// What was found out at boot, for the log and for `/v1/health`.
#[derive(Clone, Debug)]
pub struct Decisions {
    /// Whether instances come from memory that was reserved ahead.
    pub pooling: bool,
    /// Why.
    pub pooling_reason: &'static str,
    /// Whether the kernel tells touched pages (Linux 6.7 and later).
    pub pagemap_scan: bool,
    /// Slots for instances: running and waiting ones.
    pub slots: u32,
}

impl fmt::Display for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pooling {
            write!(
                f,
                "pooling on ({}), {} slots, page scan {}",
                self.pooling_reason,
                self.slots,
                if self.pagemap_scan { "on" } else { "off (needs Linux 6.7)" }
            )
        } else {
            write!(f, "pooling off ({})", self.pooling_reason)
        }
    }
}

/// The two engines.
pub(super) struct Engines {
    /// For components that use nothing of the component model's concurrency.
    pub sequential: Engine,
    /// For the others.
    pub concurrent: Engine,
}

impl Engines {
    fn new(config: impl Fn(bool) -> Config) -> Result<Self> {
        Ok(Self {
            sequential: Engine::new(&config(false))?,
            concurrent: Engine::new(&config(true))?,
        })
    }
}

/// Makes the engines that run everything.
///
/// # Errors
/// The processor or the system is not supported, or pooling was demanded and the address space is not
/// to be had.
pub(super) fn engines(settings: &config::Engine) -> Result<(Engines, Decisions)> {
    // Running instances and as many that wait for their next request.
    let slots = settings.max_instances.saturating_mul(2);
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let (pooling, reason) = match settings.pooling {
        config::Pooling::Off => (false, "switched off by engine.pooling"),
        config::Pooling::On => (true, "demanded by engine.pooling"),
        config::Pooling::Auto => (true, "the address space can be reserved"),
    };

    let build = |pooling: bool| {
        Engines::new(|concurrency| {
            let mut config = base(concurrency);
            if pooling {
                config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots, scan)));
            }
            config
        })
    };
    match build(pooling) {
        Ok(engines) => Ok((
            engines,
            Decisions { pooling, pooling_reason: reason, pagemap_scan: pooling && scan, slots },
        )),
        // The reservation is only address space, but containers and `ulimit -v` may deny it.
        Err(_) if pooling && settings.pooling == config::Pooling::Auto => Ok((
            build(false)?,
            Decisions {
                pooling: false,
                pooling_reason: "the address space could not be reserved; is there a ulimit -v?",
                pagemap_scan: false,
                slots,
            },
        )),
        Err(error) => Err(error),
    }
}

/// Engines that compile and run nothing: how memory is reserved changes no compiled code.
///
/// # Errors
/// The processor is not supported.
pub(super) fn compilers() -> Result<Engines> {
    Engines::new(base)
}

fn base(concurrency: bool) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(concurrency)
        .wasm_component_model_async(concurrency)
        // Verifying RSA and ECDSA signatures inside a guest is five times faster with it.
        .wasm_wide_arithmetic(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .parallel_compilation(true)
        .async_stack_size(ASYNC_STACK)
        .max_wasm_stack(WASM_STACK);
    config
}

fn pool(slots: u32, scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(slots.saturating_mul(MEMORIES_EACH))
        .total_tables(slots.saturating_mul(TABLES_EACH))
        .total_stacks(slots)
        .total_gc_heaps(slots)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instance_size(10 << 20)
        .max_component_instance_size(10 << 20)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .linear_memory_keep_resident(if scan { KEEP_RESIDENT_SCANNED } else { KEEP_RESIDENT_BLIND })
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}
