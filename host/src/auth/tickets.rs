//! One-time tickets: a proof that may stand in a URL.
//!
//! Owns the tickets that were given out and not shown yet. A browser can put nothing but a URL into a
//! WebSocket's handshake, and URLs end up in histories and in the logs of proxies: so what stands there must be
//! worth nothing once it was used, nothing soon after, and nothing in any other room. Only digests are kept. The
//! dangers that shaped it: a ticket that is shown twice at the same moment, and a caller who asks for so many
//! that others get none.

use super::{Caller, Principal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tickets of one caller that may wait to be shown; one more, and the oldest is worth nothing.
const MOST_OF_ONE: usize = 16;
/// Tickets that may wait in all.
const MOST: usize = 100_000;
/// Random bytes of a ticket.
const BYTES: usize = 32;

type Digested = [u8; 32];

struct Ticket {
    principal: Arc<Principal>,
    account: Arc<str>,
    until: Instant,
}

#[derive(Default)]
struct State {
    tickets: HashMap<Digested, Ticket>,
    /// What each caller has, the oldest first.
    of: HashMap<Arc<str>, VecDeque<Digested>>,
    /// All of them by their ends.
    ends: BTreeSet<(Instant, Digested)>,
}

/// The tickets of the house. They end with the process.
#[derive(Default)]
pub struct Tickets {
    state: Mutex<State>,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} tickets wait to be shown")]
pub struct TooManyTickets;

impl Tickets {
    /// A ticket with which this caller may come in at this place once, within `lasts`.
    ///
    /// # Errors
    /// [`TooManyTickets`]
    pub fn give(
        &self,
        place: &str,
        principal: Arc<Principal>,
        lasts: Duration,
    ) -> Result<String, TooManyTickets> {
        self.give_at(place, principal, lasts, Instant::now())
    }

    fn give_at(
        &self,
        place: &str,
        principal: Arc<Principal>,
        lasts: Duration,
        now: Instant,
    ) -> Result<String, TooManyTickets> {
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>());
        let digest = digest(place, &text);
        // The address counts only for those who are nobody.
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let account: Arc<str> = Caller::account_name(Some(&principal), nowhere).into();
        let mut state = self.state.lock();
        state.forget_ended(now);
        let theirs = state.of.get(&account);
        if let Some(oldest) = theirs.filter(|theirs| theirs.len() >= MOST_OF_ONE) {
            let oldest = oldest.front().copied();
            oldest.and_then(|oldest| state.remove(&oldest));
        }
        if state.tickets.len() >= MOST {
            return Err(TooManyTickets);
        }
        let until = now + lasts;
        state.of.entry(account.clone()).or_default().push_back(digest);
        state.tickets.insert(digest, Ticket { principal, account, until });
        state.ends.insert((until, digest));
        Ok(text)
    }

    /// Takes a ticket. None: it is none, was shown before, has ended, or is for another place.
    #[must_use]
    pub fn take(&self, place: &str, text: &str) -> Option<Arc<Principal>> {
        self.take_at(place, text, Instant::now())
    }

    fn take_at(&self, place: &str, text: &str, now: Instant) -> Option<Arc<Principal>> {
        let ticket = self.state.lock().remove(&digest(place, text))?;
        (now < ticket.until).then_some(ticket.principal)
    }
}

impl State {
    fn remove(&mut self, digest: &Digested) -> Option<Ticket> {
        let ticket = self.tickets.remove(digest)?;
        self.ends.remove(&(ticket.until, *digest));
        if let Some(theirs) = self.of.get_mut(&ticket.account) {
            theirs.retain(|known| known != digest);
            if theirs.is_empty() {
                self.of.remove(&ticket.account);
            }
        }
        Some(ticket)
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((end, digest)) = self.ends.first().copied()
            && end <= now
        {
            self.remove(&digest);
        }
    }
}

/// The place is part of it: shown elsewhere, a ticket is not even found, and stays good where it belongs.
fn digest(place: &str, text: &str) -> Digested {
    let mut hasher = Sha256::new();
    hasher.update((place.len() as u64).to_le_bytes());
    hasher.update(place);
    hasher.update(text);
    hasher.finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(30);

    fn principal(subject: &str) -> Arc<Principal> {
        Arc::new(Principal {
            subject: subject.into(),
            issuer: None,
            session: None,
            expires_at: None,
            claims_json: "{}".into(),
        })
    }

    #[test]
    fn a_ticket_is_good_once_in_time_and_in_its_place() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.give_at("a", principal("ann"), LASTS, now).unwrap();
        assert!(tickets.take_at("b", &ticket, now).is_none());
        assert!(tickets.take_at("a", &ticket[1..], now).is_none());
        assert_eq!(tickets.take_at("a", &ticket, now).unwrap().subject, "ann");
        assert!(tickets.take_at("a", &ticket, now).is_none());
        let late = tickets.give_at("a", principal("ann"), LASTS, now).unwrap();
        assert!(tickets.take_at("a", &late, now + LASTS).is_none());
        let just = tickets.give_at("a", principal("ann"), LASTS, now).unwrap();
        let just_in_time = now + LASTS - Duration::from_millis(1);
        assert!(tickets.take_at("a", &just, just_in_time).is_some());
    }

    #[test]
    fn who_asks_for_many_loses_the_oldest_and_takes_none_from_others() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let bob = tickets.give_at("a", principal("bob"), LASTS, now).unwrap();
        let anns: Vec<String> = (0..=MOST_OF_ONE)
            .map(|_| tickets.give_at("a", principal("ann"), LASTS, now).unwrap())
            .collect();
        let good = anns.iter().filter(|ticket| tickets.take_at("a", ticket, now).is_some()).count();
        assert_eq!(good, MOST_OF_ONE);
        assert!(tickets.take_at("a", &anns[0], now).is_none());
        assert!(tickets.take_at("a", &bob, now).is_some());
    }

    #[test]
    fn all_of_them_are_bounded_and_their_time_makes_room() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for n in 0..MOST {
            tickets.give_at("a", principal(&n.to_string()), LASTS, now).unwrap();
        }
        assert_eq!(tickets.give_at("a", principal("ann"), LASTS, now), Err(TooManyTickets));
        let later = now + LASTS;
        let ticket = tickets.give_at("a", principal("ann"), LASTS, later).unwrap();
        assert!(tickets.take_at("a", &ticket, later).is_some());
        let state = tickets.state.lock();
        assert!(state.tickets.is_empty() && state.of.is_empty() && state.ends.is_empty());
    }
}
