//! Instances between two requests.
//!
//! Owns the lists in which the instances of a version wait, one for each thread, and the bound on how many
//! wait in the whole house. An instance is put back only by a request that ended well, and never once its
//! version was replaced: it would keep what was replaced alive.

use super::lane::Lane;
use super::sequential::Instance;
use super::verifying::Verifying;
use super::version::Version;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Bounds the instances of all plugins that wait for their next request.
#[derive(Debug)]
pub(super) struct IdleCount {
    now: AtomicUsize,
    most: usize,
}

impl IdleCount {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(0), most }
    }

    pub(super) fn take(&self) -> bool {
        self.now.fetch_update(Relaxed, Relaxed, |now| (now < self.most).then_some(now + 1)).is_ok()
    }

    pub(super) fn give_back(&self, count: usize) {
        self.now.fetch_sub(count, Relaxed);
    }
}

/// The place of an instance that serves several requests, from its beginning to its end. Its requests come
/// and go, so that theirs don't bound it: a client that leaves gives a request's place back while the guest
/// works on.
pub(super) struct IdlePlace {
    house: Arc<IdleCount>,
    version: Arc<AtomicUsize>,
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.house.give_back(1);
        self.version.fetch_sub(1, Relaxed);
    }
}

impl Version {
    /// A place for an instance that serves several requests; none when there are twice as many as requests
    /// may be at work, or the house is full.
    pub(super) fn instance_place(&self) -> Option<IdlePlace> {
        let most = (self.plugin.limits.concurrency as usize).saturating_mul(2);
        let more = |now: usize| (now < most).then_some(now.saturating_add(1));
        self.shared_instances.fetch_update(Relaxed, Relaxed, more).ok()?;
        if !self.idle_in_all.take() {
            self.shared_instances.fetch_sub(1, Relaxed);
            return None;
        }
        Some(IdlePlace { house: self.idle_in_all.clone(), version: self.shared_instances.clone() })
    }

    fn idle_list(&self, lane: Lane) -> Option<&Mutex<VecDeque<Instance>>> {
        match lane {
            Lane::Fast(number) => self.idle.get(number).or(self.idle.last()),
            Lane::Slow(_) => self.idle.last(),
        }
    }

    pub(super) fn take_idle(&self, lane: Lane) -> Option<Instance> {
        let instance = self.idle_list(lane)?.lock().pop_back()?;
        self.idle_in_all.give_back(1);
        Some(instance)
    }

    pub(super) fn put_back(&self, instance: Instance) {
        if instance.served() >= self.plugin.instances.reuse || self.retiring.load(Relaxed) {
            return;
        }
        let Some(list) = self.idle_list(Lane::here()) else { return };
        if self.idle_in_all.take() {
            list.lock().push_back(instance.rested());
        }
    }

    /// Drops the instances that have waited too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        for list in &self.idle {
            let mut tired = Vec::new();
            {
                let mut list = list.lock();
                while list
                    .front()
                    .is_some_and(|i| now.duration_since(i.since()) > self.plugin.instances.idle)
                {
                    tired.extend(list.pop_front());
                }
            }
            self.idle_in_all.give_back(tired.len());
        }
        if let Some(verifying) = &self.verifying {
            verifying.sweep(self.plugin.instances.idle);
        }
    }

    /// Instances that wait for their next request.
    pub fn waiting_instances(&self) -> usize {
        let asked = self.verifying.as_ref().map_or(0, Verifying::waiting);
        asked + self.idle.iter().map(|list| list.lock().len()).sum::<usize>()
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        let waiting: usize = self.idle.iter_mut().map(|list| list.get_mut().len()).sum();
        self.idle_in_all.give_back(waiting);
    }
}
