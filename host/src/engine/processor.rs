//! How long the calling thread has had a processor.
//!
//! Owns the two clocks behind the [meter](super::meter): time that passes, which costs nothing to read, and the
//! thread's own CPU time, which costs a call of the system, and on a virtual machine as much as a microsecond. The
//! danger that shaped it: a meter that costs a guest's small request more than the guest does. So the second clock
//! is read only for what took longer than [`GRAIN`], and otherwise once in a while.
//!
//! What it says is never less than the truth. It is more only if the system took the thread off its processor in
//! between, and then by no more than [`GRAIN`].

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds up to which time that passed is as good as CPU time.
pub(super) const GRAIN: u64 = 200_000;

thread_local! {
    /// When the thread's CPU time was last read, and what it was.
    static READ: Cell<Mark> = const { Cell::new(Mark { at: 0, cpu: 0 }) };
}

/// A moment of the calling thread. It means nothing on another thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// When it was, by [`clock`].
    pub(super) at: u64,
    /// The thread's CPU time then, or up to [`GRAIN`] before, in nanoseconds.
    pub(super) cpu: u64,
}

impl Mark {
    /// Now.
    pub(super) fn now() -> Self {
        let (at, last) = (clock(), READ.get());
        let is_fresh = last.at != 0 && at.saturating_sub(last.at) < GRAIN;
        let cpu = if is_fresh { last.cpu } else { read(at) };
        Self { at, cpu }
    }

    /// Nanoseconds of a processor since then.
    pub(super) fn elapsed(self) -> u64 {
        let now = clock();
        let passed = now.saturating_sub(self.at);
        if passed < GRAIN { passed } else { passed.min(read(now).saturating_sub(self.cpu)) }
    }
}

fn read(at: u64) -> u64 {
    let cpu = thread_time();
    READ.set(Mark { at, cpu });
    cpu
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Nanoseconds since some moment, plus one: of the same clock on all threads.
pub(super) fn clock() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    nanos(START.elapsed()).saturating_add(1)
}

/// A duration in nanoseconds, as far as they go.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses a processor for so many nanoseconds.
    fn burn(time: u64) {
        let until = thread_time() + time;
        while thread_time() < until {
            std::hint::spin_loop();
        }
    }

    /// What is said and what is true of some work, some nanoseconds of work after the thread's time was last read.
    fn compare(before: u64, work: impl FnOnce()) -> (u64, u64) {
        read(clock());
        burn(before);
        let began = thread_time();
        let mark = Mark::now();
        let inner = thread_time();
        work();
        let least = thread_time() - inner;
        let said = mark.elapsed();
        assert!(said >= least, "{said} is less than {least}");
        (said, thread_time() - began)
    }

    #[test]
    fn it_is_never_less_than_the_truth() {
        for time in [GRAIN / 10, GRAIN, GRAIN * 10] {
            for before in [0, GRAIN / 2, GRAIN * 2] {
                compare(before, || burn(time));
            }
        }
    }

    #[test]
    fn waiting_counts_for_no_more_than_a_grain() {
        for before in [0, GRAIN / 2, GRAIN * 2] {
            let (said, truth) = compare(before, || std::thread::sleep(Duration::from_millis(20)));
            assert!(said <= truth + GRAIN, "{said}, of which {truth} is true");
        }
    }
}
