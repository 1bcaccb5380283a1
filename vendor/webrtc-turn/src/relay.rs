//! Where relay sockets come from.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use rand::Rng;
use socket2::{Domain, Protocol, Socket, Type};

/// A socket that waits for peers.
#[derive(Debug)]
pub struct RelaySocket {
    pub socket: UdpSocket,
    /// Where it is bound.
    pub local: SocketAddr,
    /// What clients and peers are told.
    pub external: SocketAddr,
}

/// Which port is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWish {
    Any,
    Even,
    /// An even one, and the next higher one as well.
    EvenAndNext,
}

/// Makes relay sockets.
pub trait RelayAddressGenerator: Send + Sync {
    /// Whether there are relay addresses of this family.
    fn has_family(&self, ipv4: bool) -> bool;
    /// Binds a socket, and a second for [`PortWish::EvenAndNext`].
    ///
    /// # Errors
    /// No port is left, or the system has no more sockets.
    fn allocate(
        &self,
        ipv4: bool,
        wish: PortWish,
    ) -> io::Result<(RelaySocket, Option<RelaySocket>)>;
}

/// One address that relays are bound to.
#[derive(Clone, Copy, Debug)]
pub struct RelayAddress {
    pub bind: IpAddr,
    /// What clients and peers are told: another one behind a NAT that maps one to one.
    pub external: IpAddr,
}

/// Relays on a range of ports, in a random order: a port that can be guessed is easier to disturb.
#[derive(Clone, Debug)]
pub struct RelayAddressGeneratorRanges {
    pub addresses: Vec<RelayAddress>,
    pub ports: RangeInclusive<u16>,
    /// Bytes that the system keeps for each relay socket before it drops; 0 leaves the system's default.
    pub buffer: usize,
}

impl RelayAddressGeneratorRanges {
    fn bind(&self, address: RelayAddress, port: u16) -> io::Result<RelaySocket> {
        let domain = if address.bind.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.bind.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(address.bind, port).into())?;
        if self.buffer > 0 {
            // What the system does not give, it does not give.
            _ = socket.set_recv_buffer_size(self.buffer);
            _ = socket.set_send_buffer_size(self.buffer);
        }
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(RelaySocket { socket, local, external: SocketAddr::new(address.external, local.port()) })
    }
}

impl RelayAddressGenerator for RelayAddressGeneratorRanges {
    fn has_family(&self, ipv4: bool) -> bool {
        self.addresses.iter().any(|address| address.bind.is_ipv4() == ipv4)
    }

    fn allocate(
        &self,
        ipv4: bool,
        wish: PortWish,
    ) -> io::Result<(RelaySocket, Option<RelaySocket>)> {
        let address = self.addresses.iter().find(|address| address.bind.is_ipv4() == ipv4);
        let address = *address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let count = (last + 1).saturating_sub(first);
        if count == 0 {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let offset = rand::rng().random_range(0..count);
        for step in 0..count {
            let port = first + (offset + step) % count;
            let Ok(port) = u16::try_from(port) else { continue };
            if wish != PortWish::Any && port % 2 != 0 {
                continue;
            }
            let socket = match self.bind(address, port) {
                Ok(socket) => socket,
                // Another socket has the port. Anything else will not be better on the next one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            };
            if wish != PortWish::EvenAndNext {
                return Ok((socket, None));
            }
            let next = port.checked_add(1).filter(|next| self.ports.contains(next));
            match next.map(|next| self.bind(address, next)) {
                Some(Ok(second)) => return Ok((socket, Some(second))),
                Some(Err(error)) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ranges(ports: RangeInclusive<u16>) -> RelayAddressGeneratorRanges {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        RelayAddressGeneratorRanges {
            addresses: vec![RelayAddress { bind: loopback, external: loopback }],
            ports,
            buffer: 0,
        }
    }

    #[test]
    fn a_range_that_is_used_up_gives_nothing() {
        // A port that is free now; somebody may take it meanwhile, which is the same to this test.
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ranges = ranges(free..=free);
        let first = ranges.allocate(true, PortWish::Any);
        assert_eq!(
            ranges.allocate(true, PortWish::Any).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(first);
    }

    #[test]
    fn pairs_begin_with_an_even_port() {
        let (first, second) = ranges(49152..=65535).allocate(true, PortWish::EvenAndNext).unwrap();
        assert_eq!(first.local.port() % 2, 0);
        assert_eq!(second.unwrap().local.port(), first.local.port() + 1);
        let (even, none) = ranges(49152..=65535).allocate(true, PortWish::Even).unwrap();
        assert_eq!(even.local.port() % 2, 0);
        assert!(none.is_none());
    }

    #[test]
    fn a_family_without_address_is_refused() {
        let ranges = ranges(49152..=65535);
        assert!(ranges.has_family(true) && !ranges.has_family(false));
        assert!(ranges.allocate(false, PortWish::Any).is_err());
    }
}
