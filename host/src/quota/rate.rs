//! Requests in a time: the generic cell rate algorithm.
//!
//! A caller may make `count` requests at once, and regains one each `per / count`. One number is all that
//! must be remembered: the time at which the caller will have regained everything.

use crate::config::Quota;

/// Microseconds since 1970, or a span of them.
pub(crate) type Micros = u64;

/// Where a caller stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Requests that may follow at once.
    pub remaining: u64,
    /// Seconds until everything is regained (or, if refused, until the next may come), rounded up.
    pub reset: u64,
}

/// Decides about a request at `now`. `full_at` is when the caller has regained everything; it moves only
/// when the request is allowed.
pub(crate) fn take(quota: Quota, full_at: &mut Micros, now: Micros) -> Standing {
    let per = Micros::try_from(quota.per.as_micros()).unwrap_or(Micros::MAX);
    let each = (per / quota.count.max(1)).max(1);
    // A clock that was set back must not lock anyone out for longer than the whole time.
    let start = (*full_at).clamp(now, now.saturating_add(per));
    let end = start.saturating_add(each);
    let latest = now.saturating_add(per.max(each));
    if end > latest {
        return Standing { allowed: false, remaining: 0, reset: seconds(end - latest) };
    }
    *full_at = end;
    Standing { allowed: true, remaining: (latest - end) / each, reset: seconds(end - now) }
}

fn seconds(micros: Micros) -> u64 {
    micros.div_ceil(1_000_000)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: Micros = 1_000_000;

    fn quota(count: u64, seconds: u64) -> Quota {
        Quota { count, per: Duration::from_secs(seconds) }
    }

    #[test]
    fn so_many_at_once_and_then_one_each_share_of_the_time() {
        let (mut full_at, now) = (0, 1_700_000_000 * SECOND);
        for left in (0..20).rev() {
            let standing = take(quota(20, 60), &mut full_at, now);
            assert!(standing.allowed);
            assert_eq!(standing.remaining, left);
        }
        let refused = take(quota(20, 60), &mut full_at, now);
        assert_eq!(refused, Standing { allowed: false, remaining: 0, reset: 3 });
        assert!(take(quota(20, 60), &mut full_at, now + 3 * SECOND).allowed);
        assert!(!take(quota(20, 60), &mut full_at, now + 3 * SECOND).allowed);
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let (mut full_at, now) = (0, 1_700_000_000 * SECOND);
        assert!(take(quota(1, 10), &mut full_at, now).allowed);
        for _ in 0..100 {
            assert!(!take(quota(1, 10), &mut full_at, now + 9 * SECOND).allowed);
        }
        assert!(take(quota(1, 10), &mut full_at, now + 10 * SECOND).allowed);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_the_time() {
        let mut full_at = u64::MAX;
        let now = 1_700_000_000 * SECOND;
        let refused = take(quota(5, 10), &mut full_at, now);
        assert!(!refused.allowed && refused.reset <= 10);
        assert!(take(quota(5, 10), &mut full_at, u64::MAX - 1).allowed);
    }

    proptest! {
        #[test]
        fn no_window_of_the_time_lets_more_than_twice_the_number_through(
            count in 1_u64..50, seconds in 1_u64..100,
            steps in proptest::collection::vec(0_u64..3_000_000, 1..300),
        ) {
            let quota = quota(count, seconds);
            let (mut full_at, mut now) = (0, 1_700_000_000 * SECOND);
            let mut allowed = Vec::new();
            for step in steps {
                now += step;
                if take(quota, &mut full_at, now).allowed {
                    allowed.push(now);
                }
            }
            // A full allowance at the start of a window, and what is regained in its course.
            for (first, start) in allowed.iter().enumerate() {
                let inside =
                    allowed[first..].iter().take_while(|at| **at < start + seconds * SECOND).count();
                prop_assert!(inside as u64 <= 2 * count);
            }
        }

        #[test]
        fn a_caller_who_keeps_to_the_rate_is_never_refused(
            count in 1_u64..1000, seconds in 1_u64..1000, requests in 1_u64..200,
        ) {
            let quota = quota(count, seconds);
            let each = (seconds * SECOND).div_ceil(count);
            let (mut full_at, mut now) = (0, 1_700_000_000 * SECOND);
            for _ in 0..requests {
                prop_assert!(take(quota, &mut full_at, now).allowed);
                now += each;
            }
        }

        #[test]
        fn no_numbers_make_it_panic(count: u64, per: u64, mut full_at: u64, now: u64) {
            _ = take(quota(count, per), &mut full_at, now);
        }
    }
}
