//! Places where the process can be made to die, for the tests that prove what survives.
//!
//! Owns the reading of `GUESTHOUSE_FAULT`: `POINT:N` ends the process as `kill -9` would, the Nth time that it
//! comes to that point. Without the variable nothing happens, and the variable can do nothing else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// An event has ended well; its writes have not been given to the storage.
    BeforeCommit,
    /// The writes are durable; nothing was sent.
    AfterCommit,
    /// Some of the messages of an event have been written.
    MidSend,
}

struct Armed {
    point: Point,
    left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let text = std::env::var("GUESTHOUSE_FAULT").ok()?;
            let (point, number) = text.split_once(':')?;
            let point = match point {
                "before-commit" => Point::BeforeCommit,
                "after-commit" => Point::AfterCommit,
                "mid-send" => Point::MidSend,
                _ => return None,
            };
            let number = number.parse().ok().filter(|number| *number > 0)?;
            tracing::warn!("GUESTHOUSE_FAULT is set: the process will end at {text}");
            Some(Armed { point, left: AtomicU64::new(number) })
        })
        .as_ref()
}

/// Comes to a place.
pub(super) fn here(point: Point) {
    let Some(armed) = armed() else { return };
    if armed.point == point && armed.left.fetch_sub(1, Relaxed) == 1 {
        _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal comes at once, but not before this returns everywhere.
        loop {
            std::thread::park();
        }
    }
}
