//! `guesthouse:auth/verifier`: an auth plugin is asked who a client is.
//!
//! Owns the call and the instances that wait for the next one. They are not those that serve requests:
//! between a verification and a page lies nothing but the component's own storage. As there, an instance is
//! kept only when its call ended well.

use super::failure::Failure;
use super::idle::IdleCount;
use super::lane::Lane;
use super::meter::Meter;
use super::state::State;
use super::version::Version;
use guesthouse_bindings::called::exports::guesthouse::auth::verifier::{Credentials, Rejection};
use guesthouse_bindings::called::{Called, CalledPre};
use guesthouse_bindings::guesthouse::identity::identity::Principal;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::Store;

/// What a verifier says.
pub type Verdict = Result<Principal, Rejection>;

/// A component that exports the verifier.
pub(super) struct Verifying {
    pre: CalledPre<State>,
    /// For each serving thread one list, and one for the slow lane.
    idle: Vec<Mutex<VecDeque<Asked>>>,
    /// Instances of the whole house that wait.
    idle_in_all: Arc<IdleCount>,
}

/// An instance that was asked before, or will be.
pub(super) struct Asked {
    store: Store<State>,
    guest: Called,
    served: u32,
    since: Instant,
}

impl Asked {
    pub(super) fn meter(&self) -> &Arc<Meter> {
        self.store.data().meter()
    }
}

impl Verifying {
    pub(super) fn new(
        pre: CalledPre<State>,
        fast_threads: usize,
        idle_in_all: Arc<IdleCount>,
    ) -> Self {
        Self { pre, idle: (0..=fast_threads).map(|_| Mutex::default()).collect(), idle_in_all }
    }

    fn list(&self, lane: Lane) -> Option<&Mutex<VecDeque<Asked>>> {
        match lane {
            Lane::Fast(number) => self.idle.get(number).or(self.idle.last()),
            Lane::Slow(_) => self.idle.last(),
        }
    }

    pub(super) fn take_idle(&self, lane: Lane) -> Option<Asked> {
        let instance = self.list(lane)?.lock().pop_back()?;
        self.idle_in_all.give_back(1);
        Some(instance)
    }

    pub(super) fn put_back(&self, mut instance: Asked, reuse: u32) {
        if instance.served >= reuse {
            return;
        }
        let Some(list) = self.list(Lane::here()) else { return };
        if self.idle_in_all.take() {
            instance.since = Instant::now();
            list.lock().push_back(instance);
        }
    }

    /// Asks. The instance is given back only if the call ended well.
    pub(super) async fn ask(
        &self,
        version: &Version,
        instance: Option<Asked>,
        meter: &Arc<Meter>,
        credentials: &Credentials,
    ) -> Result<(Asked, Verdict), Failure> {
        let mut instance = match instance {
            Some(instance) => instance,
            None => {
                let mut store = version.new_store(meter);
                let guest = self
                    .pre
                    .instantiate_async(&mut store)
                    .await
                    .map_err(|error| Failure::Instance(format!("{error:?}")))?;
                Asked { store, guest, served: 0, since: Instant::now() }
            }
        };
        instance.served = instance.served.saturating_add(1);
        instance.store.set_epoch_deadline(1);
        let verdict = instance
            .guest
            .guesthouse_auth_verifier()
            .call_verify(&mut instance.store, credentials)
            .await
            .map_err(|error| Failure::Trapped(format!("{error:?}")))?;
        Ok((instance, verdict))
    }

    /// Drops the instances that have waited too long.
    pub(super) fn sweep(&self, longest: Duration) {
        let now = Instant::now();
        for list in &self.idle {
            let mut tired = Vec::new();
            {
                let mut list = list.lock();
                while list.front().is_some_and(|i| now.duration_since(i.since) > longest) {
                    tired.extend(list.pop_front());
                }
            }
            self.idle_in_all.give_back(tired.len());
        }
    }

    /// Drops all instances that wait.
    pub(super) fn clear(&self) {
        for list in &self.idle {
            let waiting = std::mem::take(&mut *list.lock());
            self.idle_in_all.give_back(waiting.len());
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.idle.iter().map(|list| list.lock().len()).sum()
    }
}

impl Drop for Verifying {
    fn drop(&mut self) {
        let waiting: usize = self.idle.iter_mut().map(|list| list.get_mut().len()).sum();
        self.idle_in_all.give_back(waiting);
    }
}
