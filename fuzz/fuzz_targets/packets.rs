//! Packets of strangers and of clients, for a whole TURN server.
#![no_main]

#[path = "../src/server.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::packet(bytes));
