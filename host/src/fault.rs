//! Named places at which a test ends the house.
//!
//! Owns nothing but the wish of whoever tests: with `GUESTHOUSE_FAULT=name` the process kills itself, as
//! `kill -9` would, when it comes to the place of that name. That a crash between any two steps of a deploy
//! leaves the old or the new, and never a mix, can only be shown by crashing there.

use std::sync::OnceLock;

/// For tests only.
const VARIABLE: &str = "GUESTHOUSE_FAULT";

/// Ends the process if this is the place.
pub(crate) fn reach(place: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    if wanted.as_deref() == Some(place) {
        tracing::error!("ending the process at `{place}`, as {VARIABLE} asks");
        _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
