//! CPU time of a guest, and the deadline that stops it.
//!
//! Owns the answer to "how long has this guest been on a processor?" and the callback with which
//! wasmtime asks whether it may go on. It must never bill a guest for time spent waiting, nor, beyond a
//! [`GRAIN`](super::processor::GRAIN) for each poll, for time in which the system ran something else: on a busy machine a thread is taken off its processor for milliseconds, and
//! guests that did nothing would be sent to the slow lane for it, where they wait even longer. And it must
//! never depend on a timer of the runtime: a guest that doesn't yield can hold the very thread that
//! fires the timers. Hence a ticker on a thread of its own, and time taken around each poll.

use super::lane::Lane;
use super::processor::{Mark, clock, nanos};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use wasmtime::{Engine, EngineWeak, Result, UpdateDeadline};

/// The length of a slice: after it, a guest lets others run.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// CPU time in one go after which a request goes to the slow lane. A few ticks: what serves a page is done by
/// then, and what isn't would hold up everyone who shares the thread.
pub(super) const SLICE: Duration = Duration::from_millis(4);

/// One part in so many of the time that passes is forgiven: what hands on a stream for minutes, piece by piece, comes
/// to many slices in the end, and is in nobody's way.
const FORGIVEN: u64 = 20;

/// How long a guest that burnt its slice and can't be moved rests between ticks: it gets a twentieth of
/// the thread.
const REST: Duration = Duration::from_millis(20);

/// Which limit a guest ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// None so far.
    Running = 0,
    /// The CPU deadline.
    Cpu = 1,
    /// The memory cap: the guest asked for more and was refused.
    Memory = 2,
    /// The wall clock, for an instance that works for several requests.
    Wall = 3,
    /// The memory of all instances of the plugin together, or of the house.
    MemoryOfAll = 4,
}

/// The meter of one instance; it counts for one request at a time.
#[derive(Debug)]
pub(super) struct Meter {
    /// CPU nanoseconds of finished polls of this request.
    used: AtomicU64,
    /// When the running poll began, by [`clock`]; 0: not known.
    since: AtomicU64,
    /// The CPU time of the thread that runs it, then.
    since_cpu: AtomicU64,
    limit: AtomicU64,
    verdict: AtomicU8,
    /// The burst when it was last looked at, in nanoseconds; what had been used by then; and when that was, by
    /// [`clock`], 0: never.
    burst: AtomicU64,
    counted: AtomicU64,
    looked: AtomicU64,
    /// Set while the guest has given way in the middle of a computation.
    yielding: AtomicBool,
    /// Whether the guest can't be moved to the slow lane, and is slowed down where it is instead.
    stays: bool,
}

impl Meter {
    /// A meter with nothing on it.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::with(false))
    }

    /// The meter of an instance that stays on its thread, whatever it does.
    pub(super) fn new_shared() -> Arc<Self> {
        Arc::new(Self::with(true))
    }

    fn with(stays: bool) -> Self {
        Self {
            used: AtomicU64::new(0),
            since: AtomicU64::new(0),
            since_cpu: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            verdict: AtomicU8::new(Verdict::Running as u8),
            burst: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            yielding: AtomicBool::new(false),
            stays,
        }
    }

    /// Starts a request with this much CPU time.
    pub(super) fn reset(&self, limit: Duration) {
        self.used.store(0, Relaxed);
        self.limit.store(nanos(limit), Relaxed);
        self.verdict.store(Verdict::Running as u8, Relaxed);
        self.looked.store(0, Relaxed);
    }

    /// The guest comes onto the processor. A poll begins and ends on one thread.
    pub(super) fn begin(&self) {
        let Mark { at, cpu } = Mark::now();
        self.since_cpu.store(cpu, Relaxed);
        self.since.store(at, Relaxed);
    }

    /// The guest goes off it.
    pub(super) fn end(&self) {
        if let Some(running) = self.running() {
            self.used.fetch_add(running, Relaxed);
            self.since.store(0, Relaxed);
        }
    }

    /// CPU nanoseconds of the running poll, if its beginning is known.
    fn running(&self) -> Option<u64> {
        let at = self.since.load(Relaxed);
        (at != 0).then(|| Mark { at, cpu: self.since_cpu.load(Relaxed) }.elapsed())
    }

    /// CPU time of this request so far, the running poll included.
    pub(super) fn used(&self) -> Duration {
        let running = self.running().unwrap_or(0);
        Duration::from_nanos(self.used.load(Relaxed).saturating_add(running))
    }

    /// CPU time of this request that came in one go: all of it, less a part of the time that has passed meanwhile.
    /// To be asked by one thread at a time.
    pub(super) fn burst(&self) -> Duration {
        let used = nanos(self.used());
        if used <= nanos(TICK) {
            return Duration::from_nanos(used);
        }
        let now = clock();
        let burst = match self.looked.swap(now, Relaxed) {
            0 => used,
            looked => {
                let forgiven = now.saturating_sub(looked) / FORGIVEN;
                let since = used.saturating_sub(self.counted.load(Relaxed));
                self.burst.load(Relaxed).saturating_sub(forgiven).saturating_add(since)
            }
        };
        self.counted.store(used, Relaxed);
        self.burst.store(burst, Relaxed);
        Duration::from_nanos(burst)
    }

    /// The limit that the guest ran into.
    pub(super) fn verdict(&self) -> Verdict {
        match self.verdict.load(Relaxed) {
            1 => Verdict::Cpu,
            2 => Verdict::Memory,
            3 => Verdict::Wall,
            4 => Verdict::MemoryOfAll,
            _ => Verdict::Running,
        }
    }

    /// Notes which limit it was; the first one stays.
    pub(super) fn condemn(&self, verdict: Verdict) {
        _ = self.verdict.compare_exchange(Verdict::Running as u8, verdict as u8, Relaxed, Relaxed);
    }

    /// For workers whose polls can't be wrapped: the guest is off the processor now. When it gave way
    /// in the middle of a computation its time counts on.
    pub(super) fn paused(&self) {
        if self.yielding.load(Relaxed) { self.end() } else { self.since.store(0, Relaxed) }
    }

    /// What wasmtime calls when the guest has seen a tick go by.
    pub(super) fn tick(self: &Arc<Self>) -> Result<UpdateDeadline> {
        let Some(slice) = self.running() else {
            // The start of this poll was not seen: begin to count here, in the guest's favour.
            self.begin();
            return Ok(UpdateDeadline::Continue(1));
        };
        if self.used.load(Relaxed).saturating_add(slice) > self.limit.load(Relaxed) {
            self.condemn(Verdict::Cpu);
            return Ok(UpdateDeadline::Interrupt);
        }
        if slice < nanos(TICK) / 2 {
            // The tick went by while the guest was waiting.
            return Ok(UpdateDeadline::Continue(1));
        }
        self.yielding.store(true, Relaxed);
        let meter = self.clone();
        let used = self.used.load(Relaxed).saturating_add(slice);
        let rest = self.stays && used > nanos(SLICE) && matches!(Lane::here(), Lane::Fast(_));
        Ok(UpdateDeadline::YieldCustom(
            1,
            // tokio's own yield lets the runtime look for input first; waking oneself would not.
            Box::pin(async move {
                if rest {
                    tokio::time::sleep(REST).await;
                } else {
                    tokio::task::yield_now().await;
                }
                meter.yielding.store(false, Relaxed);
                meter.begin();
            }),
        ))
    }
}

/// Advances the engine's epoch each [`TICK`], on a thread of its own, until the engine is gone.
///
/// # Errors
/// The thread could not be started.
pub(super) fn start_ticker(engines: [&Engine; 2]) -> std::io::Result<()> {
    let engines: [EngineWeak; 2] = engines.map(Engine::weak);
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            for engine in &engines {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// Uses a processor for so long.
    fn burn(time: Duration) {
        let meter = Meter::new();
        meter.begin();
        while meter.used() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_thread_that_does_not_run_costs_nothing() {
        let meter = Meter::new();
        meter.begin();
        std::thread::sleep(Duration::from_millis(20));
        meter.end();
        assert!(meter.used() < Duration::from_millis(4), "{:?}", meter.used());
    }

    #[test]
    fn time_off_the_processor_is_not_billed() {
        let meter = Meter::new();
        meter.reset(Duration::from_secs(1));
        meter.begin();
        meter.end();
        let used = meter.used();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(meter.used(), used);
    }

    #[test]
    fn a_burst_is_forgiven_as_time_passes() {
        let meter = Meter::new();
        let work = |time| {
            meter.begin();
            burn(time);
            meter.end();
        };
        work(Duration::from_millis(3));
        let burst = meter.burst();
        assert!(burst >= Duration::from_millis(3));
        // As long as this one takes: on a busy machine the work was more than was asked for.
        std::thread::sleep(burst * u32::try_from(FORGIVEN).unwrap() + Duration::from_millis(10));
        assert_eq!(meter.burst(), Duration::ZERO);
        work(Duration::from_millis(40));
        assert!(meter.burst() > SLICE);
        meter.reset(Duration::from_secs(1));
        assert_eq!(meter.burst(), Duration::ZERO);
    }

    #[test]
    fn a_guest_over_its_deadline_is_interrupted_and_the_verdict_says_why() {
        let meter = Meter::new();
        meter.reset(Duration::from_millis(2));
        meter.begin();
        burn(Duration::from_millis(5));
        assert!(matches!(meter.tick().unwrap(), UpdateDeadline::Interrupt));
        assert_eq!(meter.verdict(), Verdict::Cpu);
    }

    #[test]
    fn a_tick_that_passed_while_waiting_costs_no_yield() {
        let meter = Meter::new();
        meter.reset(Duration::from_secs(1));
        meter.begin();
        assert!(matches!(meter.tick().unwrap(), UpdateDeadline::Continue(1)));
    }

    #[test]
    fn the_first_verdict_stays() {
        let meter = Meter::new();
        meter.condemn(Verdict::Memory);
        meter.condemn(Verdict::Cpu);
        assert_eq!(meter.verdict(), Verdict::Memory);
    }
}
