//! What is still to be sent of a request while its answer is read.
//!
//! A server may answer while it reads, and may stop reading until its answer is read. Whoever writes everything first
//! would wait for it, and it for them, for ever. So a request's body is moved a piece at a time, by whoever waits for
//! the head or reads the body of the answer. It never waits by itself.

use crate::bindings::wasi::http0_2_12::types::OutgoingBody;
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::stream::{Body, Cut, IncomingBody, PIECE, READ, Watch};

/// A request's body on its way out.
pub(crate) struct Upload {
    /// Bytes that come next, and how many of them have gone.
    next: Vec<u8>,
    gone: usize,
    after: Source,
    // Before its parent: a body can't go while its stream is there.
    to: OutputStream,
    body: OutgoingBody,
}

/// Where more comes from.
enum Source {
    Nowhere,
    Stream(InputStream),
    Incoming(IncomingBody),
    Watched(IncomingBody, Box<dyn Watch>),
    Pieces(Box<dyn FnMut() -> Option<Result<Vec<u8>, Cut>>>),
}

/// What became of one attempt to move something.
enum Step {
    Moved,
    /// Neither side is ready.
    Waits,
    /// There is no more, or nobody takes it; whether it came to its end.
    Ended(bool),
}

impl Upload {
    pub(crate) fn new(from: Body, to: OutputStream, body: OutgoingBody) -> Self {
        let (next, after) = match from {
            Body::Empty => (Vec::new(), Source::Nowhere),
            Body::Bytes(bytes) => (bytes, Source::Nowhere),
            Body::Stream(stream) => (Vec::new(), Source::Stream(stream)),
            Body::Incoming(from) => (Vec::new(), Source::Incoming(from)),
            Body::Rest(first, from) => (first, Source::Incoming(from)),
            Body::Watched(from, watch) => (Vec::new(), Source::Watched(from, watch)),
            Body::Pieces(make) => (Vec::new(), Source::Pieces(make)),
        };
        Self { next, gone: 0, after, to, body }
    }

    /// Moves a piece, if both sides are ready. Gives itself back unless it has ended, and whether something happened.
    pub(crate) fn step(mut self) -> (Option<Self>, bool) {
        match self.attempt() {
            Step::Moved => (Some(self), true),
            Step::Waits => (Some(self), false),
            Step::Ended(whole) => {
                let Self { after, to, body, .. } = self;
                drop(after);
                drop(to);
                // What was cut on its way in is cut on its way out: dropped without `finish`, it has no end.
                if whole {
                    _ = OutgoingBody::finish(body, None);
                }
                (None, true)
            }
        }
    }

    fn attempt(&mut self) -> Step {
        if self.gone < self.next.len() {
            return match self.write() {
                Ok(true) if matches!(self.after, Source::Nowhere) && self.is_written() => {
                    Step::Ended(true)
                }
                Ok(true) => Step::Moved,
                Ok(false) => Step::Waits,
                // A server that answers before it has read everything closes the stream: that is its right, and its
                // answer says why.
                Err(_) => Step::Ended(false),
            };
        }
        let moved = match &mut self.after {
            Source::Nowhere => return Step::Ended(true),
            Source::Stream(from) => self.to.splice(from, PIECE),
            Source::Incoming(from) => {
                let pushed = from.push();
                match self.to.splice(from.stream(), PIECE) {
                    Ok(0) if pushed => Ok(1),
                    other => other,
                }
            }
            Source::Watched(from, _) => {
                let pushed = from.push();
                from.stream().read(READ).map(|bytes| {
                    let moved = !bytes.is_empty() || pushed;
                    (self.next, self.gone) = (bytes, 0);
                    u64::from(moved)
                })
            }
            Source::Pieces(make) => match make() {
                None => return Step::Ended(true),
                Some(Err(Cut)) => return Step::Ended(false),
                Some(Ok(piece)) => {
                    (self.next, self.gone) = (piece, 0);
                    Ok(1)
                }
            },
        };
        match moved {
            Ok(0) => Step::Waits,
            Ok(_) => Step::Moved,
            Err(StreamError::Closed) => Step::Ended(true),
            Err(_) => Step::Ended(false),
        }
    }

    fn is_written(&self) -> bool {
        self.gone == self.next.len()
    }

    /// Writes as much of what comes next as there is room for; false if there is none.
    fn write(&mut self) -> Result<bool, StreamError> {
        let room = usize::try_from(self.to.check_write()?).unwrap_or(usize::MAX);
        let left = self.next.get(self.gone..).unwrap_or_default();
        let now = left.get(..room.min(left.len())).unwrap_or_default();
        if now.is_empty() {
            return Ok(false);
        }
        self.to.write(now)?;
        self.gone += now.len();
        if self.is_written() {
            match &mut self.after {
                Source::Watched(_, watch) => watch.piece(&self.next),
                Source::Pieces(_) => self.to.flush()?,
                _ => {}
            }
        }
        Ok(true)
    }

    /// Adds what tells that another step is worth it.
    pub(crate) fn subscribe(&self, into: &mut Vec<Pollable>) {
        // What is written already needs room and nothing else. Of two streams either may be the one that holds the other
        // up, and that may change at any time: who waits for the wrong one would wait for ever.
        if !self.is_written() || matches!(self.to.check_write(), Ok(0)) {
            into.push(self.to.subscribe());
            return;
        }
        match &self.after {
            Source::Stream(from) => into.push(from.subscribe()),
            Source::Incoming(from) | Source::Watched(from, _) => from.subscribe(into),
            Source::Nowhere | Source::Pieces(_) => {}
        }
    }
}

/// Waits until one of these is ready.
pub(crate) fn wait(all: &[Pollable]) {
    // The host takes an empty list for a mistake.
    if !all.is_empty() {
        _ = poll(&all.iter().collect::<Vec<_>>());
    }
}
