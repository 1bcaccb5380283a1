//! What all instances of a plugin may take together: lines of the log, and memory.
//!
//! Owns two bounds that no single request can break and a crowd of them can: the log, which a plugin could
//! fill, and the memory of the machine, which enough instances within their own caps could exhaust and take
//! the house with it. It must never let one plugin use up what all have: of the memory, a plugin gets half.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineVerdict {
    /// It is written; before it, so many were not.
    Write { dropped: u64 },
    /// It is the first that is not written: say so.
    FirstDropped,
    /// It is counted and forgotten.
    Drop,
}

/// Lines of the log that a plugin may write in a second.
#[derive(Debug)]
pub(super) struct LineQuota {
    most: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u32,
    dropped: u64,
}

impl LineQuota {
    pub(super) fn new(most: u32) -> Self {
        Self { most, window: Mutex::new(Window { began: Instant::now(), used: 0, dropped: 0 }) }
    }

    /// Lines in a second.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn take(&self, now: Instant) -> LineVerdict {
        let mut window = self.window.lock();
        let mut dropped = 0;
        if now.saturating_duration_since(window.began) >= Duration::from_secs(1) {
            dropped = window.dropped;
            *window = Window { began: now, used: 0, dropped: 0 };
        }
        if window.used < self.most {
            window.used += 1;
            return LineVerdict::Write { dropped };
        }
        window.dropped = window.dropped.saturating_add(1);
        if window.dropped == 1 { LineVerdict::FirstDropped } else { LineVerdict::Drop }
    }
}

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
    fn lines_beyond_the_quota_are_dropped_said_once_and_counted() {
        let quota = LineQuota::new(2);
        let now = Instant::now();
        assert_eq!(quota.take(now), LineVerdict::Write { dropped: 0 });
        assert_eq!(quota.take(now), LineVerdict::Write { dropped: 0 });
        assert_eq!(quota.take(now), LineVerdict::FirstDropped);
        assert_eq!(quota.take(now), LineVerdict::Drop);
        let later = now + Duration::from_secs(2);
        assert_eq!(quota.take(later), LineVerdict::Write { dropped: 2 });
        assert_eq!(quota.take(later), LineVerdict::Write { dropped: 0 });
    }

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
