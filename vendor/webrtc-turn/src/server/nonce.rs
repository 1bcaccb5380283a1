//! Nonces that nobody has to remember.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use ring::hmac;
use subtle::ConstantTimeEq;

/// Seconds that a nonce is good for (RFC 8656 asks for an hour at most).
pub(crate) const NONCE_LIFETIME: u32 = 3600;

const MAC: usize = 8;

/// Makes and checks nonces: when they end, and a MAC of that and of the client's address.
///
/// The original keeps each nonce in a map until it is used a second time, so that anybody who can send packets,
/// with whatever sender, fills its memory.
pub(crate) struct Nonces(hmac::Key);

impl Nonces {
    pub(crate) fn new() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()))
    }

    pub(crate) fn make(&self, client: SocketAddr) -> String {
        self.make_at(client, now())
    }

    pub(crate) fn is_good(&self, nonce: &str, client: SocketAddr) -> bool {
        self.is_good_at(nonce, client, now())
    }

    fn make_at(&self, client: SocketAddr, now: u32) -> String {
        let until = now.saturating_add(NONCE_LIFETIME).to_be_bytes();
        let mut nonce = until.to_vec();
        nonce.extend_from_slice(&self.mac(until, client));
        BASE64_STANDARD_NO_PAD.encode(nonce)
    }

    fn is_good_at(&self, nonce: &str, client: SocketAddr, now: u32) -> bool {
        let Ok(nonce) = BASE64_STANDARD_NO_PAD.decode(nonce) else { return false };
        let Some((until, mac)) = nonce.split_first_chunk::<4>() else { return false };
        bool::from(mac.ct_eq(&self.mac(*until, client))) && u32::from_be_bytes(*until) > now
    }

    fn mac(&self, until: [u8; 4], client: SocketAddr) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&until);
        match client {
            SocketAddr::V4(client) => context.update(&client.ip().octets()),
            SocketAddr::V6(client) => context.update(&client.ip().octets()),
        }
        context.update(&client.port().to_be_bytes());
        context.sign().as_ref().iter().copied().take(MAC).collect()
    }
}

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time() {
        let nonces = Nonces::new();
        let client: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let nonce = nonces.make_at(client, 1000);
        assert_eq!(nonce.len(), 16, "an answer to a stranger is short");
        assert!(nonces.is_good_at(&nonce, client, 1000));
        assert!(nonces.is_good_at(&nonce, client, 999 + NONCE_LIFETIME));
        assert!(!nonces.is_good_at(&nonce, client, 1000 + NONCE_LIFETIME));
        for other in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            assert!(!nonces.is_good_at(&nonce, other.parse().unwrap(), 1000));
        }
        assert!(!Nonces::new().is_good_at(&nonce, client, 1000));
    }

    #[test]
    fn what_is_no_nonce_is_refused() {
        let nonces = Nonces::new();
        let client: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        for nonce in ["", "AAAA", "no base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(!nonces.is_good_at(nonce, client, 0));
        }
        let good = nonces.make_at(client, 1000);
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(!nonces.is_good_at(&forged, client, 1000), "{forged}");
        }
    }
}
