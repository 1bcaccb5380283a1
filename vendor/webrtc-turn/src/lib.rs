//! A patched copy of the server half of webrtc-rs's crate `turn` 0.17.2, with the codec of its `stun` 0.17.2.
//!
//! CHANGES.md lists what was changed and why. The shape of the original is kept where it was not the fault:
//! `stun` and `proto` are the codec, `allocation` holds the state, `server` answers requests.
#![warn(rust_2018_idioms)]
// The style of the original, which stays comparable with it.
#![allow(clippy::new_without_default, clippy::too_many_arguments)]

pub mod allocation;
pub mod auth;
mod error;
pub mod limits;
pub mod proto;
pub mod relay;
pub mod server;
pub mod stun;

pub use error::Error;
