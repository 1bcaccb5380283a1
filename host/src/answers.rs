//! What was answered to clients, and how fast: numbers for whoever looks.
//!
//! Owns the counts of one plugin, whatever version of it answers. It must never be felt on the path of a request:
//! no lock, no allocation, and no memory that serving threads share. Each thread counts in a place of its own, and
//! whoever looks adds the places up.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Places of one plugin; threads beyond as many share them.
const PLACES: usize = 8;
/// Upper bounds of the classes of times, in microseconds; beyond the last there is one class more.
pub const BOUNDS: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// Classes of times.
pub const TIMES: usize = BOUNDS.len() + 1;
/// Classes of statuses, from 1xx to 5xx.
pub const STATUSES: usize = 5;

/// The places of two threads never share a cache line.
#[derive(Default)]
#[repr(align(128))]
struct Place {
    statuses: [AtomicU64; STATUSES],
    times: [AtomicU64; TIMES],
    micros: AtomicU64,
}

/// What was answered of one plugin.
#[derive(Default)]
pub struct Answers {
    places: [Place; PLACES],
}

/// The sums of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Answers by the class of their status, from 1xx to 5xx.
    pub statuses: [u64; STATUSES],
    /// Answers by the time until their head was there: up to each of [`BOUNDS`], and beyond the last.
    pub times: [u64; TIMES],
    /// All these times together, in microseconds.
    pub micros: u64,
}

impl Answered {
    /// Answers in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.times.iter().sum()
    }
}

impl Answers {
    /// Counts an answer whose head took so long.
    pub fn count(&self, status: u16, took: Duration) {
        thread_local! {
            static OWN: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Relaxed) % PLACES
            };
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let Some(place) = self.places.get(OWN.with(|own| *own)) else { return };
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(count) = place.statuses.get(class.min(STATUSES - 1)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(count) = place.times.get(BOUNDS.partition_point(|bound| *bound < micros)) {
            count.fetch_add(1, Relaxed);
        }
        place.micros.fetch_add(micros, Relaxed);
    }

    /// The sums so far.
    #[must_use]
    pub fn sum(&self) -> Answered {
        let mut sum = Answered::default();
        for place in &self.places {
            for (sum, count) in sum.statuses.iter_mut().zip(&place.statuses) {
                *sum += count.load(Relaxed);
            }
            for (sum, count) in sum.times.iter_mut().zip(&place.times) {
                *sum += count.load(Relaxed);
            }
            sum.micros = sum.micros.wrapping_add(place.micros.load(Relaxed));
        }
        sum
    }
}

/// The answers of all plugins by name: they go on when a version takes another's place.
#[derive(Default)]
pub struct AllAnswers(Mutex<HashMap<String, Arc<Answers>>>);

impl AllAnswers {
    /// Those of one plugin.
    #[must_use]
    pub fn of(&self, plugin: &str) -> Arc<Answers> {
        self.0.lock().entry(plugin.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_threads_are_added_up() {
        let answers = Answers::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| {
                    for status in [200, 204, 404, 503, 101, 302] {
                        answers.count(status, Duration::from_micros(100));
                    }
                });
            }
        });
        let (sum, threads) = (answers.sum(), 2 * PLACES as u64);
        assert_eq!(sum.statuses, [1, 2, 1, 1, 1].map(|count| count * threads));
        assert_eq!((sum.count(), sum.micros), (6 * threads, 600 * threads));
    }

    #[test]
    fn a_time_belongs_to_the_first_bound_that_it_is_not_over() {
        let answers = Answers::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            answers.count(200, Duration::from_micros(micros));
        }
        let mut times = [0; TIMES];
        for (place, count) in [(0, 2), (1, 1), (TIMES - 2, 1), (TIMES - 1, 1)] {
            times[place] = count;
        }
        assert_eq!(answers.sum().times, times);
    }

    #[test]
    fn a_status_that_is_none_is_counted_somewhere() {
        let answers = Answers::default();
        answers.count(0, Duration::ZERO);
        answers.count(999, Duration::MAX);
        assert_eq!(answers.sum().count(), 2);
        assert_eq!(answers.sum().statuses.iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_plugin_has_the_same_answers_by_its_name() {
        let all = AllAnswers::default();
        all.of("a").count(200, Duration::ZERO);
        assert_eq!((all.of("a").sum().count(), all.of("b").sum().count()), (1, 0));
    }
}
