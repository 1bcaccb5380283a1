//! The codec of the crate `stun` 0.17.2.

pub mod addr;
pub mod agent;
pub mod attributes;
pub mod checks;
mod error;
pub mod error_code;
pub mod fingerprint;
pub mod integrity;
pub mod message;
#[cfg(test)]
mod rfc5769_test;
pub mod textattrs;
pub mod uattrs;
pub mod xoraddr;

// IANA assigned ports for "stun" protocol.
pub const DEFAULT_PORT: u16 = 3478;
pub const DEFAULT_TLS_PORT: u16 = 5349;

pub use error::Error;
