//! The frames of one client, counted before anyone puts them together.
//!
//! Owns where one frame ends and the next begins, and no more of the protocol than that. A message is handed on
//! when its last frame has come, and a frame may be empty: the danger that shaped it is a client whose message
//! never ends and never grows, which nobody would see but the processor.

use super::Allowance;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the longest head of a frame: opcode, length, eight bytes of length, mask.
const HEAD: usize = 14;

/// More frames than a client may send.
#[derive(Debug, thiserror::Error)]
#[error("more frames than a client may send")]
pub(super) struct TooManyFrames;

/// Finds the ends of frames in what is read, however it is cut.
#[derive(Debug, Default)]
struct Scanner {
    /// The head of a frame that has not come whole.
    head: [u8; HEAD],
    had: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: u64,
}

impl Scanner {
    /// How many frames begin in these bytes, which follow on those before.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut frames = 0_u32;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.had) {
                *place = *byte;
            }
            self.had += 1;
            if let Some(payload) = self.whole() {
                frames = frames.saturating_add(1);
                self.payload = payload;
                self.had = 0;
            }
        }
        frames
    }

    /// The length of the payload, once the head is whole.
    fn whole(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.head;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (more, length) = match second & 0x7f {
            126 => (2, extended.first_chunk().map(|two| u64::from(u16::from_be_bytes(*two)))),
            127 => (8, extended.first_chunk().map(|eight| u64::from_be_bytes(*eight))),
            short => (0, Some(u64::from(short))),
        };
        (self.had >= 2 && self.had >= 2 + more + mask).then_some(length).flatten()
    }
}

/// A client's stream, of which only so many frames are read.
pub(super) struct Counted<S> {
    stream: S,
    scanner: Scanner,
    /// None: there were too many, and that was said.
    allowance: Option<Allowance>,
}

impl<S> Counted<S> {
    /// So many frames in a second; as many may come at once. `already_read` is what came first.
    pub(super) fn new(stream: S, frames: u32, already_read: &[u8]) -> Self {
        let mut counted =
            Self { stream, scanner: Scanner::default(), allowance: Some(Allowance::new(frames)) };
        // These few are no flood; what counts is to know where a frame begins.
        _ = counted.admit(already_read);
        counted
    }

    fn admit(&mut self, bytes: &[u8]) -> Result<(), TooManyFrames> {
        let Some(allowance) = &mut self.allowance else { return Ok(()) };
        let frames = self.scanner.count(bytes);
        if (0..frames).all(|_| allowance.take()) {
            return Ok(());
        }
        // Said once: what is read from now on is thrown away by whoever says goodbye.
        self.allowance = None;
        Err(TooManyFrames)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.admit(read).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    /// A frame as a client sends it.
    fn frame(length: u64, masked: bool, payload: usize) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x02];
        match u16::try_from(length) {
            Ok(short) if short < 126 => bytes.push(bit | u8::try_from(short).unwrap()),
            Ok(medium) => {
                bytes.push(bit | 126);
                bytes.extend(medium.to_be_bytes());
            }
            Err(_) => {
                bytes.push(bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(vec![0xff; if masked { 4 } else { 0 } + payload]);
        bytes
    }

    proptest! {
        #[test]
        fn each_frame_is_counted_once_however_the_bytes_are_cut(
            lengths in prop::collection::vec((0..3_usize, 0..300_usize, any::<bool>()), 0..12),
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (kind, length, masked) in &lengths {
                let length = [*length, length + 126, length + 66_000].get(*kind).copied().unwrap();
                bytes.extend(frame(length as u64, *masked, length));
            }
            let (mut scanner, mut frames, mut rest) = (Scanner::default(), 0, bytes.as_slice());
            for cut in cuts.iter().cycle().map(|cut| cut * cut * 3) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                frames += scanner.count(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(frames as usize, lengths.len());
            prop_assert_eq!((scanner.had, scanner.payload), (0, 0));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces: Vec<Vec<u8>>) {
            let mut scanner = Scanner::default();
            for piece in pieces {
                prop_assert!(scanner.count(&piece) as usize <= piece.len());
            }
        }
    }

    #[tokio::test]
    async fn as_many_as_are_allowed_are_read_and_the_next_is_too_many() {
        let empty = frame(0, true, 0);
        let read = async |frames: usize| {
            let bytes = empty.repeat(frames);
            let (first, rest) = bytes.split_at(7);
            let mut counted = Counted::new(rest, 50, first);
            let mut into = Vec::new();
            (counted.read_to_end(&mut into).await, counted.read_to_end(&mut into).await)
        };
        assert!(read(50).await.0.is_ok());
        let (first, then) = read(51).await;
        assert!(first.unwrap_err().get_ref().unwrap().is::<TooManyFrames>());
        assert!(then.is_ok(), "the rest can be read, and thrown away");
    }
}
