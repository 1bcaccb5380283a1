//! How many connections the system lets the house have.
//!
//! Owns the limit of open files. It must never let clients use up the last descriptor: the database needs some
//! to write, and an answer from a plugin may need one. So the limit is raised as far as it may be, a part of it
//! is kept back, and connections beyond the rest are closed at the door.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for everything that is not a client: the database above all.
const KEPT: u64 = 512;

/// Connections that there can be at a time, of those that were asked for.
#[must_use]
pub fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let possible = now.map_or(usize::MAX, |now| usize::try_from(left(now)).unwrap_or(usize::MAX));
    if possible < wanted {
        tracing::warn!(
            "the system lets this process open {} files, which leaves {possible} for connections instead of \
             the {wanted} of server.max_connections: raise `ulimit -n`",
            now.unwrap_or(u64::MAX)
        );
    }
    wanted.min(possible)
}

/// What is left for clients: half of very little.
fn left(limit: u64) -> u64 {
    limit - KEPT.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_always_kept_and_some_are_always_left() {
        assert_eq!(left(1 << 20), (1 << 20) - KEPT);
        assert_eq!(left(1024), 512);
        assert_eq!(left(256), 128);
        assert_eq!(left(0), 0);
    }
}
