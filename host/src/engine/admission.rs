//! How many requests a plugin works on at a time, and how many wait.
//!
//! Owns the bounded queue in front of the instances. It must never let a request through to an instance
//! pool that is full: the pool's answer to that is an error, not a wait.

use super::failure::Failure;
use crate::config::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The right to use an instance; given back when it is dropped.
pub(super) struct Permit {
    _plugin: OwnedSemaphorePermit,
    _house: OwnedSemaphorePermit,
}

/// The queue of one plugin.
pub(super) struct Admission {
    plugin: Arc<Semaphore>,
    house: Arc<Semaphore>,
    waiting: AtomicU32,
    limits: Limits,
}

/// Counts a waiting request as long as it waits, also when its client goes away meanwhile.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Admission {
    /// The queue of a plugin with these limits, in a house with so many places in all.
    pub(super) fn new(limits: Limits, house: Arc<Semaphore>) -> Self {
        Self {
            plugin: Arc::new(Semaphore::new(limits.concurrency as usize)),
            house,
            waiting: AtomicU32::new(0),
            limits,
        }
    }

    /// Waits for a place, in turn.
    ///
    /// # Errors
    /// [`Failure::QueueFull`] at once when the queue is full, [`Failure::Wall`] when the turn did not come
    /// before the deadline.
    pub(super) async fn admit(&self, deadline: Instant) -> Result<Permit, Failure> {
        if let Ok(plugin) = self.plugin.clone().try_acquire_owned()
            && let Ok(house) = self.house.clone().try_acquire_owned()
        {
            return Ok(Permit { _plugin: plugin, _house: house });
        }
        if self.waiting.fetch_add(1, Relaxed) >= self.limits.queue {
            self.waiting.fetch_sub(1, Relaxed);
            return Err(Failure::QueueFull {
                concurrency: self.limits.concurrency,
                queue: self.limits.queue,
            });
        }
        let _waiting = Waiting(&self.waiting);
        let both = async {
            let plugin = self.plugin.clone().acquire_owned().await.map_err(|_| Failure::Dropped)?;
            let house = self.house.clone().acquire_owned().await.map_err(|_| Failure::Dropped)?;
            Ok(Permit { _plugin: plugin, _house: house })
        };
        tokio::time::timeout_at(deadline, both)
            .await
            .unwrap_or(Err(Failure::Wall(self.limits.wall)))
    }

    /// Requests that wait for their turn.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Requests at work.
    pub(super) fn running(&self) -> usize {
        (self.limits.concurrency as usize).saturating_sub(self.plugin.available_permits())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admission(concurrency: u32, queue: u32) -> Arc<Admission> {
        let limits = Limits { concurrency, queue, ..Limits::default() };
        Arc::new(Admission::new(limits, Arc::new(Semaphore::new(1000))))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let admission = admission(1, 0);
        let _held = admission.admit(soon()).await.unwrap();
        assert!(matches!(admission.admit(soon()).await, Err(Failure::QueueFull { .. })));
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        let admission = admission(1, 1);
        let held = admission.admit(soon()).await.unwrap();
        let waiter = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit(soon()).await.is_ok() }
        });
        while admission.waiting.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(admission.admit(soon()).await, Err(Failure::QueueFull { .. })));
        drop(held);
        assert!(waiter.await.unwrap());
    }

    #[tokio::test]
    async fn a_client_that_leaves_the_queue_makes_room() {
        let admission = admission(1, 1);
        let _held = admission.admit(soon()).await.unwrap();
        {
            let mut waiter = Box::pin(admission.admit(soon()));
            assert!(futures::poll!(&mut waiter).is_pending());
            assert_eq!(admission.waiting.load(Relaxed), 1);
        }
        assert_eq!(admission.waiting.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline() {
        let admission = admission(1, 1);
        let _held = admission.admit(soon()).await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(10);
        assert!(matches!(admission.admit(deadline).await, Err(Failure::Wall(_))));
    }
}
