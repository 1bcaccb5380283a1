//! The memory that all instances of a plugin, and of the house, may take together.
//!
//! Owns a bound that no single request can break and a crowd of them can: enough instances within their own caps
//! could exhaust the memory of the machine and take the house with it. It must never let one plugin use up what
//! all have: a plugin gets half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Memory of all instances of the house, and of those of one plugin.
#[derive(Clone, Debug)]
pub(super) struct MemoryQuota {
    house: Arc<Pool>,
    plugin: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    used: AtomicU64,
    most: u64,
}

impl Pool {
    fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), most })
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

impl MemoryQuota {
    /// For a house whose instances may have so many bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { house: Pool::new(most), plugin: Pool::new(most / 2) }
    }

    /// The share of another plugin.
    pub(super) fn of_plugin(&self) -> Self {
        Self { house: self.house.clone(), plugin: Pool::new(self.house.most / 2) }
    }

    pub(super) fn take(&self, bytes: u64) -> bool {
        if !self.plugin.take(bytes) {
            return false;
        }
        if !self.house.take(bytes) {
            self.plugin.give_back(bytes);
            return false;
        }
        true
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.plugin.give_back(bytes);
        self.house.give_back(bytes);
    }
}

/// Half of the memory that this process may use: of the machine's, or of its container's where that is less.
pub(super) fn half_of_the_machine() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let all = [machine, container].into_iter().flatten().min();
    // Where nobody knows, as much as a small machine has.
    all.unwrap_or(2 << 30) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_half_of_the_memory_to_the_byte_and_what_it_gives_back() {
        let one = MemoryQuota::new(1000);
        let other = one.of_plugin();
        assert!(!one.take(501));
        assert!(one.take(500));
        assert!(!one.take(1));
        assert!(other.take(500), "the other half is another's");
        one.give_back(500);
        assert!(one.take(500));
    }

    #[test]
    fn all_plugins_together_get_what_the_house_has() {
        let quotas: Vec<MemoryQuota> = {
            let one = MemoryQuota::new(1000);
            (0..3).map(|_| one.of_plugin()).collect()
        };
        let taken = quotas.iter().filter(|quota| quota.take(400)).count();
        assert_eq!(taken, 2);
    }

    #[test]
    fn half_of_the_machine_is_known() {
        assert!(half_of_the_machine() > 64 << 20);
    }
}
