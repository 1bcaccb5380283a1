//! Ports that must be known before the house that listens on them starts.
//!
//! Wherever the house prints its address, a test says port 0 instead. A port that the system picked and that was
//! given back can go to any other socket before the house asks for it, and one that is free for UDP is often taken
//! for TCP: hence a range from which the system picks none.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux gives ports to those who ask for any (`ip_local_port_range`).
const RANGE: Range<u16> = 16_000..32_000;

/// One that is free on loopback for TCP and for UDP, and that this process hands out once.
#[must_use]
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = u32::from(RANGE.end - RANGE.start);
    // Processes that run beside each other begin far apart.
    let first = std::process::id().wrapping_mul(2_654_435_761) % range;
    for _ in RANGE {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = RANGE.start + u16::try_from((first + step) % range).unwrap();
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port of {RANGE:?} is free for TCP and UDP")
}
