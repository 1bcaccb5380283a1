//! A connection that doesn't wait for ever.
//!
//! Owns what nothing above can see: timeouts for a client that connects and says nothing, and for one that
//! takes nothing of what is sent to it, and a close that doesn't take the last answer from the client. It
//! costs nothing while data flows: a timer exists only while the connection is stuck, or closing.
//!
//! The danger behind the close: a system that closes a connection on which bytes have come that nobody has read
//! resets it, and a reset throws away what the client has not read yet (RFC 9112 §9.6). Whoever sends too large
//! a body would see a broken connection instead of its 413.

use super::unread::Unread;
use crate::config;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
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
    /// Runs while what the client still sends is thrown away.
    linger_timer: Option<Pin<Box<Sleep>>>,
    unread: Unread,
    head: Duration,
    idle: Duration,
    linger: Duration,
    /// Bytes that may still be thrown away.
    linger_left: u64,
}

/// Bytes that are thrown away at once.
const RUBBISH: usize = 16 << 10;

impl TimedIo {
    /// `unread` says, when it is closed, whether more may come of what the client sends.
    pub(super) fn new(stream: TcpStream, settings: &config::Server, unread: Unread) -> Self {
        Self {
            stream,
            opening: PREFACE,
            opening_timer: None,
            write_timer: None,
            linger_timer: None,
            unread,
            head: settings.header_timeout,
            idle: settings.idle_timeout,
            linger: settings.linger,
            linger_left: settings.linger_bytes,
        }
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
        let this = &mut *self;
        if this.linger_timer.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        loop {
            let mut rubbish = [const { MaybeUninit::uninit() }; RUBBISH];
            let mut rubbish = ReadBuf::uninit(&mut rubbish);
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut rubbish);
            let bytes = rubbish.filled().len() as u64;
            let more = match &read {
                Poll::Ready(read) => read.is_ok() && bytes > 0 && bytes <= this.linger_left,
                // Once there was something to throw away, the rest of it is waited for.
                Poll::Pending => this.linger_timer.is_some() || this.unread.is_set(),
            };
            // The time counts for one that sends without a pause, too.
            if !more || expired(&mut this.linger_timer, this.linger, cx).is_err() {
                return Poll::Ready(Ok(()));
            }
            this.linger_left -= bytes;
            ready!(read)?;
        }
    }
}
