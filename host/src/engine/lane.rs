//! The fast and the slow lane.
//!
//! Owns where a guest runs. A request starts on the thread that accepted it, the fast lane, where it
//! shares a processor with everyone else's. Once it has burnt its slice it is moved, in the middle of its
//! computation, to a thread of the slow lane, which the system runs at lower priority. The danger that
//! shaped it: in a prototype, one guest in an endless loop took its neighbours from 18,000 requests per
//! second to 23.

use super::meter::{Meter, SLICE, TICK};
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// How much nicer than the others the threads of the slow lane are (`nice(2)`).
const NICENESS: i32 = 10;

thread_local! {
    /// Which lane this thread is of.
    static LANE: Cell<Lane> = const { Cell::new(Lane::Fast(0)) };
}

/// A thread that runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A serving thread, by its number.
    Fast(usize),
    /// A thread of the slow lane, by its number.
    Slow(usize),
}

impl Lane {
    /// The lane of the calling thread.
    #[must_use]
    pub fn here() -> Self {
        LANE.get()
    }

    /// Marks the calling thread.
    pub fn enter(self) {
        LANE.set(self);
    }
}

/// Whose run it is: told when it is moved, asked where its like begin.
pub(super) trait Owner: Send + Sync {
    /// A run was moved to the slow lane.
    fn moved(&self);
    /// Whether the owner's runs begin on the slow lane at the moment.
    fn is_slow(&self) -> bool;
}

/// A guest at work, and the wish to stop it.
pub(super) struct Run {
    work: BoxFuture<'static, ()>,
    meter: Arc<Meter>,
    stop: Arc<Stop>,
}

/// Stops a run from outside, when nobody waits for its answer any more.
#[derive(Default)]
pub(super) struct Stop {
    wanted: AtomicBool,
    waker: AtomicWaker,
}

impl Stop {
    /// Drops the run at its next chance.
    pub(super) fn stop(&self) {
        self.wanted.store(true, Relaxed);
        self.waker.wake();
    }
}

impl Run {
    /// A guest that will be at work, and is measured. When the work has come to its end, it has told the meter so
    /// itself, before it gave the instance back: by then the meter may measure the next run of that instance, on
    /// another thread.
    pub(super) fn new(work: BoxFuture<'static, ()>, meter: Arc<Meter>, stop: Arc<Stop>) -> Self {
        Self { work, meter, stop }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stop.waker.register(cx.waker());
        if self.stop.wanted.load(Relaxed) {
            return Poll::Ready(());
        }
        self.meter.begin();
        let poll = self.work.as_mut().poll(cx);
        if poll.is_pending() {
            self.meter.end();
        }
        poll
    }
}

/// A run on the fast lane, ready to be moved.
struct FastRun {
    run: Option<Run>,
    slow: Arc<SlowLane>,
    owner: Arc<dyn Owner>,
}

impl Future for FastRun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(run) = &mut self.run else { return Poll::Ready(()) };
        if run.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let burst = run.meter.burst();
        // When several come at once, the first that burns its slice takes the others along: else each would
        // burn one, with all the neighbours waiting.
        if burst > SLICE || (burst > TICK && self.owner.is_slow()) {
            if let Some(run) = self.run.take() {
                self.owner.moved();
                self.slow.take(run);
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The threads of the slow lane.
pub(super) struct SlowLane {
    threads: Vec<mpsc::UnboundedSender<Run>>,
    next: AtomicUsize,
}

impl SlowLane {
    /// Starts so many threads.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(super) fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let mut senders = Vec::new();
        for number in 0..threads.max(1) {
            // What waits here is bounded: each run holds a permit of its plugin.
            let (sender, mut receiver) = mpsc::unbounded_channel::<Run>();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("slow-{number}")).spawn(move || {
                Lane::Slow(number).enter();
                lower_priority();
                runtime.block_on(async move {
                    while let Some(mut run) = receiver.recv().await {
                        tokio::spawn(std::future::poll_fn(move |cx| run.poll(cx)));
                    }
                });
            })?;
            senders.push(sender);
        }
        Ok(Arc::new(Self { threads: senders, next: AtomicUsize::new(0) }))
    }

    fn take(&self, run: Run) {
        let turn = self.next.fetch_add(1, Relaxed) % self.threads.len().max(1);
        if let Some(thread) = self.threads.get(turn) {
            // The threads live as long as the lane; at shutdown the run is dropped, as all are.
            _ = thread.send(run);
        }
    }

    /// Runs on the fast lane and moves what burns its slice.
    pub(super) fn start_fast(self: &Arc<Self>, run: Run, owner: Arc<dyn Owner>) {
        tokio::spawn(FastRun { run: Some(run), slow: self.clone(), owner });
    }

    /// The same within the task of the caller. Resolves when the run has ended or has been moved.
    pub(super) fn run_here(
        self: &Arc<Self>,
        run: Run,
        owner: Arc<dyn Owner>,
    ) -> impl Future<Output = ()> + Send {
        FastRun { run: Some(run), slow: self.clone(), owner }
    }

    /// Runs on the slow lane from the start.
    pub(super) fn start_slow(&self, run: Run) {
        self.take(run);
    }
}

/// Best effort: where it is not allowed, the slow lane is a lane all the same.
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
        tracing::debug!("the priority of the slow lane could not be lowered: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Uses a processor for so long.
    fn burn(time: Duration) {
        let meter = Meter::new();
        meter.begin();
        while meter.used() < time {
            std::hint::spin_loop();
        }
    }

    struct Nobody;

    impl Owner for Nobody {
        fn moved(&self) {}
        fn is_slow(&self) -> bool {
            false
        }
    }

    #[test]
    fn work_that_burns_its_slice_goes_on_in_the_slow_lane() {
        let slow = SlowLane::start(1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lanes = runtime.block_on(async {
            let meter = Meter::new();
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let work = async move {
                let mut lanes = vec![Lane::here()];
                for _ in 0..4 {
                    burn(Duration::from_millis(2));
                    tokio::task::yield_now().await;
                    lanes.push(Lane::here());
                }
                _ = sender.send(lanes);
            };
            slow.start_fast(Run::new(Box::pin(work), meter, Arc::default()), Arc::new(Nobody));
            receiver.await.unwrap()
        });
        assert_eq!(lanes.first(), Some(&Lane::Fast(0)));
        assert_eq!(lanes.last(), Some(&Lane::Slow(0)));
    }

    #[test]
    fn work_that_comes_little_by_little_stays_however_long_it_takes() {
        let slow = SlowLane::start(1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lane = runtime.block_on(async {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let work = async move {
                for _ in 0..8 {
                    burn(Duration::from_millis(1));
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                _ = sender.send(Lane::here());
            };
            slow.start_fast(
                Run::new(Box::pin(work), Meter::new(), Arc::default()),
                Arc::new(Nobody),
            );
            receiver.await.unwrap()
        });
        assert_eq!(lane, Lane::Fast(0));
    }

    #[test]
    fn a_stopped_run_is_dropped() {
        let slow = SlowLane::start(1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stop = Arc::new(Stop::default());
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let work = async move {
                std::future::pending::<()>().await;
                drop(sender);
            };
            slow.start_fast(Run::new(Box::pin(work), Meter::new(), stop.clone()), Arc::new(Nobody));
            tokio::task::yield_now().await;
            stop.stop();
            assert!(receiver.await.is_err());
        });
    }
}
