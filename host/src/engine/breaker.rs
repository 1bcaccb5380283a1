//! The circuit breaker in front of a plugin that fails again and again.
//!
//! Owns when a plugin is not asked any more, and when it is tried again. It must never refuse a plugin
//! that works: one good answer closes it, whichever request it came from. Two dangers shaped it: a plugin
//! whose every request makes an instance, traps and writes a backtrace, and a reload or a retry at once
//! that turns such a plugin into a load for the whole house; hence a pause that doubles, with jitter.
//!
//! What counts is what the plugin did to itself: a trap, a panic, the memory cap, the CPU deadline, an
//! instance that could not start, an end without an answer. What does not count is what may be another's
//! fault: the wall clock (an upstream is slow), an error code that the plugin chose to give, a full queue,
//! a client that went away.

use crate::config;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How the breaker stands. All times are since its birth, so that a test can say what time it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Requests go through; so many failed in a row.
    Closed { failures: u32 },
    /// Requests are refused until then. It opened so many times in a row.
    Open { until: Duration, times: u32 },
    /// One request, the one with this number, is out to see whether the plugin works again.
    Probing { times: u32, probe: u64 },
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Go through.
    Through,
    /// Go through, alone, as the one that finds out.
    Probe(u64),
    /// Come back after this time.
    Refused(Duration),
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It opened, for this long, after so many failures in a row.
    Opened { pause: Duration, failures: u32 },
    /// The plugin answered again.
    Closed,
}

/// The state machine, without clock and chance.
#[derive(Debug)]
struct Machine {
    settings: config::Breaker,
    state: State,
    probes: u64,
}

impl Machine {
    fn new(settings: config::Breaker) -> Self {
        Self { settings, state: State::Closed { failures: 0 }, probes: 0 }
    }

    fn enter(&mut self, now: Duration) -> Entry {
        match self.state {
            State::Closed { .. } => Entry::Through,
            State::Open { until, times } if now >= until => {
                self.probes = self.probes.wrapping_add(1);
                self.state = State::Probing { times, probe: self.probes };
                Entry::Probe(self.probes)
            }
            State::Open { until, .. } => Entry::Refused(until.saturating_sub(now)),
            // The probe is out: its answer takes as long as the plugin takes.
            State::Probing { .. } => Entry::Refused(self.settings.backoff),
        }
    }

    fn good(&mut self) -> Option<Change> {
        let was = std::mem::replace(&mut self.state, State::Closed { failures: 0 });
        (!matches!(was, State::Closed { .. })).then_some(Change::Closed)
    }

    /// `chance` lies between 0 and 1.
    fn bad(&mut self, now: Duration, probe: Option<u64>, chance: f64) -> Option<Change> {
        let times = match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures < self.settings.failures {
                    return None;
                }
                0
            }
            State::Probing { times, probe: out } if probe == Some(*out) => times.saturating_add(1),
            // What began before the breaker opened says nothing new.
            State::Open { .. } | State::Probing { .. } => return None,
        };
        let pause = self.pause(times, chance);
        self.state = State::Open { until: now.saturating_add(pause), times };
        Some(Change::Opened { pause, failures: self.settings.failures.saturating_add(times) })
    }

    /// The probe ended without saying anything about the plugin: the next request is the probe.
    fn unknown(&mut self, now: Duration, probe: u64) {
        if let State::Probing { times, probe: out } = self.state
            && probe == out
        {
            self.state = State::Open { until: now, times };
        }
    }

    /// Doubles each time, and is shortened by up to a half, so that plugins which failed together don't
    /// come back together.
    fn pause(&self, times: u32, chance: f64) -> Duration {
        let doubled = self.settings.backoff.saturating_mul(1_u32 << times.min(20));
        doubled.min(self.settings.max_backoff).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// The breaker of one version of a plugin.
#[derive(Debug)]
pub(crate) struct Breaker {
    born: Instant,
    machine: Mutex<Machine>,
    /// Closed, and nothing has failed since the last good answer: then nobody needs the lock.
    calm: AtomicBool,
    refused: AtomicU64,
}

/// The way of one request past the breaker. Dropped without a word, it says nothing about the plugin.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket(Option<(Arc<Breaker>, u64)>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((breaker, probe)) = &self.0 {
            breaker.machine.lock().unknown(breaker.born.elapsed(), *probe);
        }
    }
}

/// How the breaker stands, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BreakerStatus {
    /// `closed`: requests go through. `open`: they are refused. `probing`: one is out to find out.
    pub state: &'static str,
    /// Failures since the last good answer, as long as it is closed.
    pub failures_in_a_row: u32,
    /// Milliseconds until the next try.
    pub retry_in_ms: u64,
    /// Requests that were refused, in all.
    pub refused: u64,
}

impl Breaker {
    pub(crate) fn new(settings: config::Breaker) -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            machine: Mutex::new(Machine::new(settings)),
            calm: AtomicBool::new(true),
            refused: AtomicU64::new(0),
        })
    }

    /// Lets a request through, or says after which time it may come back.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, Duration> {
        if self.calm.load(Relaxed) {
            return Ok(Ticket(None));
        }
        match self.machine.lock().enter(self.born.elapsed()) {
            Entry::Through => Ok(Ticket(None)),
            Entry::Probe(number) => Ok(Ticket(Some((self.clone(), number)))),
            Entry::Refused(after) => {
                self.refused.fetch_add(1, Relaxed);
                Err(after)
            }
        }
    }

    /// The plugin did what it should.
    pub(crate) fn good(&self, mut ticket: Ticket) -> Option<Change> {
        ticket.0 = None;
        if self.calm.load(Relaxed) {
            return None;
        }
        let mut machine = self.machine.lock();
        let change = machine.good();
        self.calm.store(true, Relaxed);
        change
    }

    /// The plugin failed in a way that counts.
    pub(crate) fn bad(&self, mut ticket: Ticket) -> Option<Change> {
        let probe = ticket.0.take().map(|(_, number)| number);
        let mut machine = self.machine.lock();
        if machine.settings.failures == 0 {
            return None;
        }
        self.calm.store(false, Relaxed);
        machine.bad(self.born.elapsed(), probe, rand::random())
    }

    /// As [`Self::bad`], when no ticket is at hand: a failure of an instance, not of one request.
    pub(crate) fn bad_instance(&self) -> Option<Change> {
        self.bad(Ticket(None))
    }

    /// As [`Self::bad`], for a request whose instance was counted already.
    pub(crate) fn bad_probe(&self, ticket: Ticket) -> Option<Change> {
        ticket.0.is_some().then(|| self.bad(ticket)).flatten()
    }

    pub(crate) fn status(&self) -> BreakerStatus {
        let now = self.born.elapsed();
        let (state, failures, after) = match self.machine.lock().state {
            State::Closed { failures } => ("closed", failures, Duration::ZERO),
            State::Open { until, .. } => ("open", 0, until.saturating_sub(now)),
            State::Probing { .. } => ("probing", 0, Duration::ZERO),
        };
        BreakerStatus {
            state,
            failures_in_a_row: failures,
            retry_in_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            refused: self.refused.load(Relaxed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: config::Breaker = config::Breaker {
        failures: 3,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(1500),
    };

    fn machine() -> Machine {
        Machine::new(SETTINGS)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_opens_at_the_last_failure_in_a_row_and_not_before() {
        let mut machine = machine();
        assert_eq!(machine.bad(at(0), None, 1.0), None);
        assert_eq!(machine.bad(at(0), None, 1.0), None);
        assert_eq!(machine.good(), None);
        assert_eq!(machine.bad(at(0), None, 1.0), None);
        assert_eq!(machine.bad(at(0), None, 1.0), None);
        assert_eq!(
            machine.bad(at(0), None, 1.0),
            Some(Change::Opened { pause: at(100), failures: 3 })
        );
        assert_eq!(machine.enter(at(99)), Entry::Refused(at(1)));
        assert_eq!(machine.enter(at(100)), Entry::Probe(1));
        assert_eq!(machine.enter(at(100)), Entry::Refused(at(100)), "one probe at a time");
        assert_eq!(machine.good(), Some(Change::Closed));
        assert_eq!(machine.enter(at(100)), Entry::Through);
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_begins_anew_after_a_good_answer() {
        let mut machine = machine();
        let mut now = at(0);
        let mut probe = None;
        let mut fail = |machine: &mut Machine| match machine.bad(now, probe, 1.0) {
            Some(Change::Opened { pause, .. }) => {
                now += pause;
                let Entry::Probe(number) = machine.enter(now) else { panic!("no probe") };
                probe = Some(number);
                pause
            }
            other => panic!("{other:?}"),
        };
        machine.state = State::Closed { failures: 2 };
        let pauses: Vec<Duration> = (0..6).map(|_| fail(&mut machine)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1500, 1500].map(at));
        machine.good();
        machine.state = State::Closed { failures: 2 };
        assert_eq!(fail(&mut machine), at(100));
    }

    #[test]
    fn a_probe_that_says_nothing_leaves_the_next_request_to_find_out() {
        let mut machine = machine();
        machine.state = State::Open { until: at(10), times: 0 };
        assert_eq!(machine.enter(at(10)), Entry::Probe(1));
        machine.unknown(at(11), 1);
        assert_eq!(machine.enter(at(11)), Entry::Probe(2));
        machine.unknown(at(11), 1);
        assert_eq!(machine.bad(at(11), Some(1), 1.0), None, "the first is not the probe any more");
        assert!(matches!(machine.enter(at(11)), Entry::Refused(_)));
    }

    #[test]
    fn a_dropped_ticket_gives_the_probe_back() {
        let breaker = Breaker::new(config::Breaker { backoff: Duration::ZERO, ..SETTINGS });
        for _ in 0..3 {
            breaker.bad(breaker.enter().unwrap());
        }
        drop(breaker.enter().unwrap());
        let probe = breaker.enter().unwrap();
        assert_eq!(breaker.status().state, "probing");
        assert!(breaker.enter().is_err());
        assert_eq!(breaker.good(probe), Some(Change::Closed));
        assert_eq!(breaker.status().state, "closed");
        assert_eq!(breaker.status().refused, 1);
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let breaker = Breaker::new(config::Breaker { failures: 0, ..SETTINGS });
        for _ in 0..100 {
            assert_eq!(breaker.bad(breaker.enter().unwrap()), None);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Arrive,
        /// Ends the request that is out for longest: good, bad or unknown.
        End(u8, f64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..800_u64).prop_map(Step::Wait),
            Just(Step::Arrive),
            (0..3_u8, 0.0..=1.0).prop_map(|(end, chance)| Step::End(end, chance)),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a reckoning of its own: nothing is refused before enough failures in a row, one probe is
        /// out at a time, a pause is kept and is never longer than the limit, a good answer closes.
        #[test]
        fn it_refuses_only_what_it_should(steps in steps()) {
            let mut machine = machine();
            let mut now = at(0);
            let mut out: std::collections::VecDeque<Option<u64>> = std::collections::VecDeque::new();
            // The probe that is out, if one is.
            let mut probing = None;
            let mut in_a_row = 0;
            // When it opened, and for how long; none while it is closed.
            let mut opened: Option<(Duration, Duration)> = None;
            for step in steps {
                match step {
                    Step::Wait(ms) => now += at(ms),
                    Step::Arrive => match machine.enter(now) {
                        Entry::Through => {
                            prop_assert!(opened.is_none());
                            out.push_back(None);
                        }
                        Entry::Probe(number) => {
                            let (since, pause) = opened.unwrap();
                            prop_assert!(probing.is_none());
                            prop_assert!(now >= since + pause);
                            probing = Some(number);
                            out.push_back(Some(number));
                        }
                        Entry::Refused(_) => {
                            let (since, pause) = opened.unwrap();
                            prop_assert!(in_a_row >= SETTINGS.failures);
                            prop_assert!(probing.is_some() || now < since + pause);
                        }
                    },
                    Step::End(how, chance) => {
                        let Some(probe) = out.pop_front() else { continue };
                        let is_probe = probe.is_some() && probe == probing;
                        match how {
                            0 => {
                                prop_assert_eq!(machine.good().is_some(), opened.is_some());
                                (in_a_row, opened, probing) = (0, None, None);
                            }
                            1 => {
                                in_a_row += u32::from(opened.is_none());
                                let opens = is_probe
                                    || (opened.is_none() && in_a_row >= SETTINGS.failures);
                                match machine.bad(now, probe, chance) {
                                    Some(Change::Opened { pause, .. }) => {
                                        prop_assert!(opens);
                                        prop_assert!(pause <= SETTINGS.max_backoff);
                                        prop_assert!(pause >= SETTINGS.backoff / 2);
                                        (opened, probing) = (Some((now, pause)), None);
                                    }
                                    other => prop_assert!(other.is_none() && !opens),
                                }
                            }
                            _ => {
                                if let Some(number) = probe {
                                    machine.unknown(now, number);
                                }
                                if is_probe {
                                    (opened, probing) = (Some((now, Duration::ZERO)), None);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
