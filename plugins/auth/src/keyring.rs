//! The issuer's keys: when to fetch them, and how long they may be used.
//!
//! Owns the plan, as a state machine without clock or network. Fresh keys are used as they are. A key name that
//! nobody knows makes us ask the issuer once more, but not more often than the floor allows: names cost
//! an attacker nothing. While the issuer is down, old keys are used until their grace ends. Of many
//! instances that need new keys, one asks and the others wait for what it learns.

use crate::keys::{Key, parse_set};
use serde::{Deserialize, Serialize};

/// How long one instance may take to ask, in milliseconds; then another may.
pub const ASKING: u64 = 5_000;

/// What is kept of the issuer's keys, shared by all instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The set as it was published.
    pub set: Option<String>,
    /// When it was fetched, in milliseconds since 1970.
    pub fetched: u64,
    /// When the issuer was last asked; answers that never came count.
    pub asked: u64,
    /// Whether that question is still open.
    pub asking: bool,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long keys are used without asking again.
    pub fresh: u64,
    /// How long after they were fetched they may be used if the issuer does not answer.
    pub grace: u64,
    /// The shortest time between two questions.
    pub floor: u64,
}

/// What to do about a token that names this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Use the key of the kept set.
    Use,
    /// Ask the issuer, then look again.
    Ask,
    /// Someone is asking: wait, then look again.
    Wait,
    /// The issuer does not know this key.
    Unknown,
    /// There are no keys that may be used.
    Unavailable,
}

impl Kept {
    /// Decides. `known` says whether the kept set has the key.
    #[must_use]
    pub fn plan(&self, known: bool, times: Times, now: u64) -> Plan {
        let age = now.saturating_sub(self.fetched);
        let has = self.set.is_some();
        if has && known && age < times.fresh {
            return Plan::Use;
        }
        let since = now.saturating_sub(self.asked);
        let asking = self.asking && since < ASKING;
        let usable = has && age < times.grace;
        if asking {
            // Whoever has a usable key need not wait for a newer one.
            return if usable && known { Plan::Use } else { Plan::Wait };
        }
        if since >= times.floor {
            return Plan::Ask;
        }
        match (usable, known) {
            (true, true) => Plan::Use,
            // It was asked a moment ago, and had no such key; or it did not answer, and nobody can say.
            (true, false) if self.fetched >= self.asked => Plan::Unknown,
            _ => Plan::Unavailable,
        }
    }

    /// The same, with an open question.
    #[must_use]
    pub fn ask(&self, now: u64) -> Self {
        Self { asked: now, asking: true, ..self.clone() }
    }

    /// What the issuer answered.
    #[must_use]
    pub fn answered(&self, answer: Option<String>, now: u64) -> Self {
        match answer {
            Some(set) => {
                Self { set: Some(set), fetched: now, asked: self.asked.min(now), asking: false }
            }
            None => Self { asking: false, ..self.clone() },
        }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.set.as_deref().and_then(|set| parse_set(set).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMES: Times = Times { fresh: 300_000, grace: 3_600_000, floor: 30_000 };
    const START: u64 = 1_700_000_000_000;

    fn fetched(at: u64) -> Kept {
        Kept::default().ask(at).answered(Some("{}".to_owned()), at)
    }

    #[test]
    fn the_first_token_makes_us_ask_and_the_others_wait() {
        let kept = Kept::default();
        assert_eq!(kept.plan(false, TIMES, START), Plan::Ask);
        let asking = kept.ask(START);
        assert_eq!(asking.plan(false, TIMES, START + 10), Plan::Wait);
        // Whoever asked has gone: another may after the floor.
        assert_eq!(asking.plan(false, TIMES, START + ASKING), Plan::Unavailable);
        assert_eq!(asking.plan(false, TIMES, START + TIMES.floor), Plan::Ask);
    }

    #[test]
    fn fresh_keys_are_used_and_old_ones_while_new_ones_are_fetched() {
        let kept = fetched(START);
        assert_eq!(kept.plan(true, TIMES, START + 299_999), Plan::Use);
        assert_eq!(kept.plan(true, TIMES, START + 300_000), Plan::Ask);
        let asking = kept.ask(START + 300_000);
        assert_eq!(asking.plan(true, TIMES, START + 300_001), Plan::Use);
    }

    #[test]
    fn an_unknown_name_makes_us_ask_once_and_not_again_before_the_floor() {
        let kept = fetched(START);
        assert_eq!(kept.plan(false, TIMES, START + 29_999), Plan::Unknown);
        assert_eq!(kept.plan(false, TIMES, START + 30_000), Plan::Ask);
        let asked = kept.ask(START + 30_000).answered(Some("{}".to_owned()), START + 30_010);
        assert_eq!(asked.plan(false, TIMES, START + 30_011), Plan::Unknown);
    }

    #[test]
    fn keys_serve_until_their_grace_ends_while_the_issuer_is_down() {
        let down = fetched(START).ask(START + 400_000).answered(None, START + 400_100);
        assert_eq!(down.plan(true, TIMES, START + 400_200), Plan::Use);
        assert_eq!(down.plan(false, TIMES, START + 400_200), Plan::Unavailable);
        let late = down.ask(START + 3_590_000).answered(None, START + 3_590_100);
        assert_eq!(late.plan(true, TIMES, START + 3_599_999), Plan::Use);
        assert_eq!(late.plan(true, TIMES, START + 3_600_000), Plan::Unavailable);
    }

    proptest! {
        /// However tokens come and whatever the issuer does, it is not asked more often than the floor.
        #[test]
        fn the_floor_holds(
            steps in proptest::collection::vec((0_u64..60_000, any::<bool>(), 0_u8..3), 1..200),
        ) {
            let (mut kept, mut now) = (Kept::default(), START);
            let mut asked: Option<u64> = None;
            for (step, known, answer) in steps {
                now += step;
                if kept.plan(known, TIMES, now) == Plan::Ask {
                    prop_assert!(asked.is_none_or(|at| now - at >= TIMES.floor));
                    asked = Some(now);
                    kept = kept.ask(now);
                    kept = match answer {
                        0 => kept.answered(Some("{}".to_owned()), now),
                        1 => kept.answered(None, now),
                        _ => kept,
                    };
                }
            }
        }
    }
}
