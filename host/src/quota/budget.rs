//! Tokens in a period.
//!
//! A period begins at a multiple of its length since 1970, and then nothing has been spent. What is
//! reserved counts as spent until it is settled: what is not known is taken to be all.

use super::ledger::{Account, Ledger};
use crate::config::Quota;
use std::sync::Arc;

/// What a caller has left and may spend.
#[derive(Clone)]
pub struct Budget {
    pub(super) account: Arc<Account>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) quota: Quota,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// What is left.
    pub remaining: u64,
    /// Seconds until the next period.
    pub retry_after: u64,
}

/// The spending side of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// When the period began, in milliseconds since 1970.
    pub(super) since: u64,
    /// Tokens.
    pub(super) tokens: u64,
}

impl Spent {
    /// Goes on to the period of `now`, if it is another. Then nothing has been spent.
    pub(super) fn turn(&mut self, quota: Quota, now: u64) {
        let since = now - now % length(quota);
        if self.since != since {
            *self = Self { since, tokens: 0 };
        }
    }
}

fn length(quota: Quota) -> u64 {
    u64::try_from(quota.per.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Seconds until the period that contains `now` ends, at least 1.
fn left_of_period(quota: Quota, now: u64) -> u64 {
    let length = length(quota);
    (length - now % length).div_ceil(1000).max(1)
}

impl Budget {
    /// How many tokens there are in a period.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// What is left, and seconds until the next period.
    #[must_use]
    pub fn remaining(&self) -> (u64, u64) {
        let now = super::ledger::now_ms();
        let left = self.with(now, |spent| self.quota.count.saturating_sub(spent.tokens));
        (left, left_of_period(self.quota, now))
    }

    /// Spends, also more than is left.
    pub fn charge(&self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let now = super::ledger::now_ms();
        self.with(now, |spent| spent.tokens = spent.tokens.saturating_add(tokens));
        self.ledger.changed(&self.account);
    }

    /// Sets tokens aside; gives the function that settles with what was spent in the end. As long as it
    /// isn't called, all of them are spent.
    ///
    /// # Errors
    /// There is not so much left; nothing has changed.
    pub fn reserve(&self, tokens: u64) -> Result<impl FnOnce(u64) + Send + use<>, Exhausted> {
        let now = super::ledger::now_ms();
        let since = self.with(now, |spent| {
            let remaining = self.quota.count.saturating_sub(spent.tokens);
            if tokens > remaining {
                return Err(Exhausted { remaining, retry_after: left_of_period(self.quota, now) });
            }
            spent.tokens = spent.tokens.saturating_add(tokens);
            Ok(spent.since)
        })?;
        self.ledger.changed(&self.account);
        let budget = self.clone();
        Ok(move |in_the_end: u64| {
            let now = super::ledger::now_ms();
            budget.with(now, |spent| {
                // What was reserved in a period that is over has gone with it.
                let reserved = if spent.since == since { tokens } else { in_the_end };
                spent.tokens = spent.tokens.saturating_sub(reserved).saturating_add(in_the_end);
            });
            budget.ledger.changed(&budget.account);
        })
    }

    fn with<R>(&self, now: u64, act: impl FnOnce(&mut Spent) -> R) -> R {
        let mut state = self.account.state.lock();
        state.spent.turn(self.quota, now);
        state.spent_until = state.spent.since.saturating_add(length(self.quota));
        act(&mut state.spent)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_new_period_begins_with_nothing_spent() {
        let quota = Quota { count: 10, per: Duration::from_secs(60) };
        let mut spent = Spent { since: 60_000, tokens: 7 };
        spent.turn(quota, 119_999);
        assert_eq!(spent, Spent { since: 60_000, tokens: 7 });
        assert_eq!(left_of_period(quota, 119_999), 1);
        spent.turn(quota, 120_000);
        assert_eq!(spent, Spent { since: 120_000, tokens: 0 });
        assert_eq!(left_of_period(quota, 120_000), 60);
    }
}
