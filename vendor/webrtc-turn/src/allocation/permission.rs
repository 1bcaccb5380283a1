use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::error::*;
use crate::proto::channum::ChannelNumber;

/// How long a permission holds (RFC 8656, section 9).
pub(crate) const PERMISSION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a channel holds (RFC 8656, section 12).
pub(crate) const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// What a client may reach through its allocation.
///
/// Times are looked at when an entry is used: the original has a task and a timer for each.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    permissions: HashMap<IpAddr, Permission>,
    channels: HashMap<ChannelNumber, Channel>,
    numbers: HashMap<SocketAddr, ChannelNumber>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    until: Instant,
    /// Given only because relays of this server are at the address: no other port of it may be reached.
    relays_only: bool,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    peer: SocketAddr,
    until: Instant,
}

/// What a permission lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The whole address.
    Address,
    /// Relays of this server that are there.
    Relays,
}

impl Peers {
    /// What may be exchanged with an address.
    pub(crate) fn reach(&self, peer: IpAddr, now: Instant) -> Option<Reach> {
        let permission = self.permissions.get(&peer).filter(|permission| permission.until > now)?;
        Some(if permission.relays_only { Reach::Relays } else { Reach::Address })
    }

    /// The peer of a channel.
    pub(crate) fn peer(&self, number: ChannelNumber, now: Instant) -> Option<SocketAddr> {
        self.channels.get(&number).filter(|channel| channel.until > now).map(|channel| channel.peer)
    }

    /// The channel of a peer.
    pub(crate) fn number(&self, peer: SocketAddr, now: Instant) -> Option<ChannelNumber> {
        let number = *self.numbers.get(&peer)?;
        self.peer(number, now).map(|_| number)
    }

    /// Adds or refreshes permissions: all of them or, when they are too many, none.
    pub(crate) fn permit(
        &mut self,
        peers: &[(IpAddr, Reach)],
        most: usize,
        now: Instant,
    ) -> Result<()> {
        let mut new: Vec<IpAddr> = peers.iter().map(|(peer, _)| *peer).collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|peer| !self.permissions.contains_key(peer));
        if self.permissions.len() + new.len() > most {
            self.permissions.retain(|_, permission| permission.until > now);
            new = peers.iter().map(|(peer, _)| *peer).collect();
            new.sort_unstable();
            new.dedup();
            new.retain(|peer| !self.permissions.contains_key(peer));
            if self.permissions.len() + new.len() > most {
                return Err(Error::ErrQuota);
            }
        }
        for (peer, reach) in peers {
            let relays_only = *reach == Reach::Relays;
            let until = now + PERMISSION_TIMEOUT;
            self.permissions.insert(*peer, Permission { until, relays_only });
        }
        Ok(())
    }

    /// Binds a channel or refreshes it, and the permission with it.
    pub(crate) fn bind(
        &mut self,
        number: ChannelNumber,
        peer: SocketAddr,
        reach: Reach,
        most: (usize, usize),
        now: Instant,
    ) -> Result<()> {
        let (most_channels, most_permissions) = most;
        if self.peer(number, now).is_some_and(|bound| bound != peer)
            || self.number(peer, now).is_some_and(|bound| bound != number)
        {
            return Err(Error::ErrSameChannelDifferentPeer);
        }
        if !self.channels.contains_key(&number) && self.channels.len() >= most_channels {
            self.channels.retain(|_, channel| channel.until > now);
            let channels = &self.channels;
            self.numbers.retain(|_, number| channels.contains_key(number));
            if self.channels.len() >= most_channels {
                return Err(Error::ErrQuota);
            }
        }
        self.permit(&[(peer.ip(), reach)], most_permissions, now)?;
        if let Some(old) =
            self.channels.insert(number, Channel { peer, until: now + CHANNEL_TIMEOUT })
            && old.peer != peer
        {
            self.numbers.remove(&old.peer);
        }
        if let Some(old) = self.numbers.insert(peer, number)
            && old != number
        {
            self.channels.remove(&old);
        }
        Ok(())
    }

    /// Everything that is reachable now, for people to look at.
    pub(crate) fn list(&self, now: Instant) -> Vec<IpAddr> {
        let alive = self.permissions.iter().filter(|(_, permission)| permission.until > now);
        let mut peers: Vec<IpAddr> = alive.map(|(peer, _)| *peer).collect();
        peers.sort_unstable();
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ChannelNumber = ChannelNumber(0x4000);
    const SECOND: ChannelNumber = ChannelNumber(0x4001);

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_permission_ends_by_itself_and_a_refresh_prolongs_it() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let peer = address("198.51.100.1:1").ip();
        peers.permit(&[(peer, Reach::Address)], 1, now).unwrap();
        let later = now + PERMISSION_TIMEOUT;
        assert_eq!(peers.reach(peer, later - Duration::from_secs(1)), Some(Reach::Address));
        assert_eq!(peers.reach(peer, later), None);
        peers.permit(&[(peer, Reach::Address)], 1, later).unwrap();
        assert!(peers.reach(peer, later).is_some());
    }

    #[test]
    fn permissions_beyond_the_quota_are_refused_as_a_whole_until_others_have_ended() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let all: Vec<(IpAddr, Reach)> =
            (1..=3).map(|n| (address(&format!("198.51.100.{n}:1")).ip(), Reach::Address)).collect();
        assert!(peers.permit(&all, 2, now).is_err());
        assert!(peers.list(now).is_empty());
        peers.permit(&all[..2], 2, now).unwrap();
        assert!(peers.permit(&all[2..], 2, now).is_err());
        peers.permit(&all[..2], 2, now).unwrap();
        peers.permit(&all[2..], 2, now + PERMISSION_TIMEOUT).unwrap();
    }

    #[test]
    fn a_channel_has_one_peer_and_a_peer_one_channel() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let (one, other) = (address("198.51.100.1:1"), address("198.51.100.1:2"));
        peers.bind(FIRST, one, Reach::Address, (2, 2), now).unwrap();
        assert!(peers.bind(FIRST, other, Reach::Address, (2, 2), now).is_err());
        assert!(peers.bind(SECOND, one, Reach::Address, (2, 2), now).is_err());
        assert_eq!((peers.peer(FIRST, now), peers.number(one, now)), (Some(one), Some(FIRST)));
        let later = now + CHANNEL_TIMEOUT;
        assert_eq!((peers.peer(FIRST, later), peers.number(one, later)), (None, None));
        peers.bind(FIRST, other, Reach::Address, (2, 2), later).unwrap();
        assert_eq!((peers.peer(FIRST, later), peers.number(one, later)), (Some(other), None));
        peers.bind(SECOND, one, Reach::Address, (2, 2), later).unwrap();
        assert_eq!(peers.number(one, later), Some(SECOND));
        assert!(
            peers
                .bind(
                    ChannelNumber(0x4002),
                    address("198.51.100.1:3"),
                    Reach::Address,
                    (2, 2),
                    later
                )
                .is_err()
        );
    }
}
