//! A connection that doesn't wait for ever.
//!
//! Owns two timeouts that nothing above can see: a client that connects and says nothing, and one that
//! takes nothing of what is sent to it. It costs nothing while data flows: a timer exists only while the
//! connection is stuck.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes after which the protocol is known and its own timeout for heads begins: the length of the
/// preface of HTTP/2, which is less than any request of HTTP/1.1.
const PREFACE: usize = 24;

/// A TCP connection with timeouts.
pub(super) struct TimedIo {
    stream: TcpStream,
    /// Bytes still to come before the first timeout is over.
    opening: usize,
    opening_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    head: Duration,
    idle: Duration,
}

impl TimedIo {
    /// `head`: for the first bytes; `idle`: for a client that takes nothing.
    pub(super) fn new(stream: TcpStream, head: Duration, idle: Duration) -> Self {
        Self { stream, opening: PREFACE, opening_timer: None, write_timer: None, head, idle }
    }

    /// The connection without its timeouts: who takes it has timeouts of its own.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if poll.is_ready() {
            self.write_timer = None;
            return poll;
        }
        expired(&mut self.write_timer, self.idle, cx)?;
        Poll::Pending
    }
}

/// Starts the timer if it isn't running; an error when it is over.
fn expired(
    timer: &mut Option<Pin<Box<Sleep>>>,
    after: Duration,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    let timer =
        timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + after)));
    match timer.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        Poll::Pending => Ok(()),
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.opening == 0 {
            return poll;
        }
        this.opening = this.opening.saturating_sub(buf.filled().len().saturating_sub(before));
        if this.opening == 0 || poll.is_ready() {
            if this.opening == 0 {
                this.opening_timer = None;
            }
            return poll;
        }
        expired(&mut this.opening_timer, this.head, cx)?;
        Poll::Pending
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, poll)
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
