//! How a canary does.
//!
//! Owns the last answers of a version that serves a share of the callers beside another, and the verdict that it
//! does worse than it may. Who then takes it back, `plugins` says. It counts answers and no time, so that a
//! plugin with ten requests an hour is judged as one with ten thousand a second. The danger that shaped it: a bad
//! version that nobody notices but those whom it serves.

use super::version::Version;
use crate::config;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio_util::sync::CancellationToken;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// An answer below 500, or an event of a room that ended well.
    Good,
    /// A 5xx, or an event of a room that did not.
    Error,
    /// The plugin failed by itself. It may have answered before.
    Trap,
}

/// The last answers of a canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers, and events of rooms.
    pub answers: u32,
    /// Those of them that were 5xx, and events that failed.
    pub errors: u32,
    /// Traps, panics, the memory cap, the CPU deadline.
    pub traps: u32,
}

/// The state machine, without lock and clock.
#[derive(Debug, Default)]
struct Seen {
    recent: VecDeque<Mark>,
    tally: Tally,
    verdict: Option<String>,
}

impl Seen {
    /// Takes note. True: this was too much.
    fn note(&mut self, mark: Mark, settings: &config::Canary) -> bool {
        self.recent.push_back(mark);
        self.count(mark, true);
        // A trap without an answer has no place among the answers, and must not make the list grow for ever.
        let longest = (settings.window as usize).saturating_mul(2);
        while self.tally.answers > settings.window || self.recent.len() > longest {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.count(oldest, false);
        }
        self.judge(settings)
    }

    fn count(&mut self, mark: Mark, comes: bool) {
        let Tally { answers, errors, traps } = &mut self.tally;
        let change = |number: &mut u32| {
            *number = if comes { number.saturating_add(1) } else { number.saturating_sub(1) };
        };
        match mark {
            Mark::Good => change(answers),
            Mark::Error => {
                change(answers);
                change(errors);
            }
            Mark::Trap => change(traps),
        }
    }

    fn judge(&mut self, settings: &config::Canary) -> bool {
        let Tally { answers, errors, traps } = self.tally;
        if self.verdict.is_some() || answers < settings.least || settings.errors >= 100 {
            return false;
        }
        let too_many =
            |bad: u32| u64::from(bad) * 100 > u64::from(settings.errors) * u64::from(answers);
        let what = match (too_many(errors), too_many(traps)) {
            (false, false) => return false,
            (_, true) => format!("{traps} traps"),
            (true, false) => format!("{errors} errors"),
        };
        let bound = settings.errors;
        self.verdict = Some(format!(
            "{what} in its last {answers} answers, and {bound} in a hundred are the most (canary.errors)"
        ));
        true
    }
}

/// Watches a canary.
#[derive(Debug)]
pub struct Watch {
    settings: config::Canary,
    seen: Mutex<Seen>,
    /// There is a verdict, or nothing more to judge.
    over: AtomicBool,
    done: CancellationToken,
}

impl Watch {
    /// For a version with these settings.
    #[must_use]
    pub fn new(settings: config::Canary) -> Arc<Self> {
        Arc::new(Self {
            settings,
            seen: Mutex::default(),
            over: AtomicBool::new(false),
            done: CancellationToken::new(),
        })
    }

    fn note(&self, mark: Mark) {
        if !self.is_over() && self.seen.lock().note(mark, &self.settings) {
            self.end();
        }
    }

    /// Whether there is a verdict, or nothing more to judge.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// The version is no canary any more.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
        self.done.cancel();
    }

    /// Waits for the end. Why the version must be taken back; none: it need not.
    pub async fn verdict(&self) -> Option<String> {
        self.done.cancelled().await;
        self.seen.lock().verdict.clone()
    }

    /// The last answers.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.seen.lock().tally
    }
}

impl Version {
    /// From now on it is a canary.
    pub fn watched_by(&self, watch: &Arc<Watch>) {
        // A version that was loaded once is a canary once.
        _ = self.watch.set(watch.clone());
    }

    /// It has answered; `failed`: with a 5xx, or not at all.
    pub(crate) fn answered(&self, failed: bool) {
        if let Some(watch) = self.watch.get() {
            watch.note(if failed { Mark::Error } else { Mark::Good });
        }
    }

    /// It failed by itself.
    pub(super) fn trapped(&self) {
        if let Some(watch) = self.watch.get() {
            watch.note(Mark::Trap);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: config::Canary = config::Canary { errors: 10, least: 10, window: 50 };

    fn watch() -> Arc<Watch> {
        Watch::new(SETTINGS)
    }

    #[test]
    fn so_many_in_a_hundred_are_allowed_and_one_more_is_too_much() {
        let watch = watch();
        for _ in 0..9 {
            watch.note(Mark::Good);
        }
        watch.note(Mark::Error);
        assert!(!watch.is_over(), "one of ten is what is allowed");
        watch.note(Mark::Error);
        assert!(watch.is_over());
        let verdict = watch.seen.lock().verdict.clone().unwrap();
        assert!(verdict.contains("2 errors in its last 11 answers"), "{verdict}");
        assert!(verdict.contains("canary.errors"));
    }

    #[test]
    fn nothing_is_said_before_there_is_enough_to_judge_by() {
        let watch = watch();
        for _ in 0..9 {
            watch.note(Mark::Error);
            assert!(!watch.is_over());
        }
        watch.note(Mark::Error);
        assert!(watch.is_over());
    }

    #[test]
    fn a_long_good_time_does_not_hide_a_bad_one() {
        let watch = watch();
        for _ in 0..100_000 {
            watch.note(Mark::Good);
        }
        for _ in 0..5 {
            watch.note(Mark::Error);
        }
        assert!(!watch.is_over());
        watch.note(Mark::Error);
        assert!(watch.is_over());
    }

    #[test]
    fn traps_behind_a_good_head_count_as_well() {
        let watch = watch();
        for _ in 0..10 {
            watch.note(Mark::Good);
        }
        watch.note(Mark::Trap);
        assert!(!watch.is_over());
        watch.note(Mark::Trap);
        assert!(watch.seen.lock().verdict.clone().unwrap().starts_with("2 traps"));
    }

    #[tokio::test]
    async fn who_is_no_canary_any_more_gets_no_verdict() {
        let watch = watch();
        watch.end();
        for _ in 0..20 {
            watch.note(Mark::Error);
        }
        assert_eq!(watch.verdict().await, None);
        assert_eq!(watch.tally(), Tally::default());
    }

    #[test]
    fn a_hundred_of_a_hundred_is_never_too_much() {
        let watch = Watch::new(config::Canary { errors: 100, ..SETTINGS });
        for _ in 0..1000 {
            watch.note(Mark::Error);
            watch.note(Mark::Trap);
        }
        assert!(!watch.is_over());
    }

    proptest! {
        #[test]
        fn the_tally_is_that_of_the_last_answers(
            marks in prop::collection::vec(0..3_u8, 0..300),
        ) {
            let mut seen = Seen::default();
            for mark in &marks {
                let mark = [Mark::Good, Mark::Error, Mark::Trap].get(usize::from(*mark)).unwrap();
                seen.note(*mark, &SETTINGS);
                let count = |wanted: Mark| {
                    u32::try_from(seen.recent.iter().filter(|mark| **mark == wanted).count()).unwrap()
                };
                let (good, errors, traps) =
                    (count(Mark::Good), count(Mark::Error), count(Mark::Trap));
                prop_assert_eq!(seen.tally, Tally { answers: good + errors, errors, traps });
                prop_assert!(seen.tally.answers <= SETTINGS.window);
                prop_assert!(seen.recent.len() <= 2 * SETTINGS.window as usize);
            }
        }
    }
}
