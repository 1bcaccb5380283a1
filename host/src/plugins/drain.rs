//! The end of a version that was replaced.
//!
//! Owns the time between the switch and the moment at which nothing of the old version is left: instances,
//! code, cache and descriptors. Requests that began with it end with it, within a limit. The danger that
//! shaped it: a host whose memory grows with every reload.

use super::{Plugins, Slot};
use crate::engine::Version;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A version that serves no new request and still has old ones.
#[derive(Clone)]
pub struct Draining {
    /// The plugin.
    pub plugin: String,
    /// The number of the version.
    pub number: u64,
    /// Since when.
    pub since: Instant,
    version: Weak<Version>,
}

impl Draining {
    /// Requests that are still at work in it.
    #[must_use]
    pub fn running(&self) -> usize {
        self.version.upgrade().map_or(0, |version| version.running())
    }
}

impl Plugins {
    /// The versions that are draining.
    pub fn draining(&self) -> Vec<Draining> {
        self.draining.lock().clone()
    }

    /// Sees a version off that no longer is in the active deployment. Needs the runtime.
    pub(super) fn retire(self: &Arc<Self>, slot: Arc<Slot>) {
        let Some(version) = slot.active() else { return };
        let gone = version.retire();
        let draining = Draining {
            plugin: slot.plugin.name.clone(),
            number: slot.number,
            since: Instant::now(),
            version: Arc::downgrade(&version),
        };
        let (slot, plugins, limit) = (Arc::downgrade(&slot), self.clone(), self.setup.swap_drain);
        self.draining.lock().push(draining.clone());
        drop(version);
        tokio::spawn(async move {
            if tokio::time::timeout(limit, gone.cancelled()).await.is_err() {
                plugins.cut(&draining, &slot, limit);
                gone.cancelled().await;
            }
            let Draining { plugin, number, since, version } = draining;
            plugins.draining.lock().retain(|other| !other.version.ptr_eq(&version));
            let took = since.elapsed().as_secs_f64();
            tracing::info!(%plugin, version = number, "the replaced version is gone after {took:.1} s");
        });
    }

    fn cut(&self, draining: &Draining, slot: &Weak<Slot>, limit: Duration) {
        if let Some(version) = draining.version.upgrade() {
            tracing::warn!(
                plugin = %draining.plugin,
                version = draining.number,
                "{} requests of the replaced version had not ended after {limit:?} and are cut \
                 (server.swap_drain)",
                version.running()
            );
            version.cut(limit);
        }
        // Whoever still holds the slot, as a client that takes no bytes does, holds no code any more.
        if let Some(slot) = slot.upgrade() {
            slot.unload();
        }
    }
}
