//! Lines of the log that one plugin may cause in a second (`limits.log`).
//!
//! Owns the count. What a guest prints, how it fails and what it asks of other servers each make lines, as many as
//! the guest likes: whoever writes such a line asks here first, says once that the rest is dropped, and later how
//! many were. The danger that shaped it: a log full of one plugin's lines, in which another's are not found.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineVerdict {
    /// It is written; before it, so many were not.
    Write { dropped: u64 },
    /// It is the first that is not written: say so.
    FirstDropped,
    /// It is counted and forgotten.
    Drop,
}

/// Lines of the log that a plugin may write in a second.
#[derive(Debug)]
pub(crate) struct LineQuota {
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
    pub(crate) fn new(most: u32) -> Self {
        Self { most, window: Mutex::new(Window { began: Instant::now(), used: 0, dropped: 0 }) }
    }

    /// Whether a line about this plugin may be written now. Says it when lines begin to be dropped, in the words
    /// of `beyond`, and how many were, in those of `dropped`.
    pub(crate) fn admits(
        &self,
        plugin: &str,
        dropped: impl FnOnce(u64) -> String,
        beyond: impl FnOnce(u32) -> String,
    ) -> bool {
        match self.take(Instant::now()) {
            LineVerdict::Write { dropped: 0 } => true,
            LineVerdict::Write { dropped: number } => {
                tracing::warn!(%plugin, "{}", dropped(number));
                true
            }
            LineVerdict::FirstDropped => {
                tracing::warn!(%plugin, "{}", beyond(self.most));
                false
            }
            LineVerdict::Drop => false,
        }
    }

    fn take(&self, now: Instant) -> LineVerdict {
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
}
