//! A client's WebSocket.
//!
//! Owns the queue of what waits for one client, and the task that reads from and writes to its socket. It never
//! lets a client that reads slowly hold up the room or fill memory: the queue is bounded, and what does not fit
//! is left out or ends the connection. It never reads more than the room can take: a client that sends faster
//! waits in its own kernel's buffers. Pings, pongs and the closing handshake are its own business, and wake no
//! room.

mod frames;

use super::fault;
use super::mailbox::{Input, Mailbox};
use crate::auth::Caller;
use frames::{Counted, TooManyFrames};
use futures::{SinkExt, StreamExt};
use guesthouse_bindings::rooms::connections::Delivery;
use guesthouse_bindings::rooms::types::{CloseInfo, ConnId, Principal};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
pub use tokio_tungstenite::tungstenite::protocol::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Buffer for reading: small, because ten thousand idle sockets have one each.
const READ_BUFFER: usize = 2048;
/// Bytes that are gathered before they are written, when several messages wait.
const WRITE_BUFFER: usize = 4096;
/// Messages of one connection that may be in the mailbox at a time.
const WINDOW: usize = 32;
/// How long a client has to answer a close frame, or to take what is queued before one.
const GOODBYE: Duration = Duration::from_secs(5);
/// What a queued message costs beside its bytes.
const OVERHEAD: usize = 64;
/// A queue that once was long gives its memory back.
const KEPT_CAPACITY: usize = 16;

/// What bounds a socket; from the configuration at the time at which it was opened.
#[derive(Clone, Copy, Debug)]
pub struct SocketLimits {
    /// `rooms.queue`
    pub queue: usize,
    /// `rooms.message`
    pub message: usize,
    /// `rooms.rate`
    pub rate: u32,
    /// `rooms.frames`
    pub frames: u32,
    /// `rooms.ping`
    pub ping: Duration,
}

/// A connection, as the room sees it.
pub struct Socket {
    /// Its id.
    pub id: ConnId,
    /// Who the client is, and what it may spend.
    pub caller: Option<Arc<Caller>>,
    /// Milliseconds since 1970.
    pub opened_at: u64,
    tags: OnceLock<Vec<String>>,
    limits: SocketLimits,
    out: Mutex<Out>,
    wake: Notify,
    in_mailbox: AtomicUsize,
    open: AtomicBool,
}

#[derive(Default)]
struct Out {
    queue: VecDeque<Frame>,
    bytes: usize,
    /// Set once; nothing is queued behind it.
    close: Option<(u16, String)>,
    /// Whether what is queued is to be thrown away before closing.
    cut: bool,
    gone: bool,
}

impl Socket {
    /// A connection that is being made.
    pub fn new(
        id: ConnId,
        caller: Option<Arc<Caller>>,
        opened_at: u64,
        limits: SocketLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            caller,
            opened_at,
            tags: OnceLock::new(),
            limits,
            out: Mutex::default(),
            wake: Notify::new(),
            in_mailbox: AtomicUsize::new(0),
            open: AtomicBool::new(false),
        })
    }

    /// Who the client is, as rooms know it.
    pub fn principal(&self) -> Option<Principal> {
        self.caller.as_deref().and_then(super::principal)
    }

    /// When the client's token expires, in milliseconds since 1970.
    pub fn expires_at(&self) -> Option<u64> {
        self.caller.as_ref()?.principal.as_ref()?.expires_at
    }

    /// Fixed when the room accepts.
    pub fn set_tags(&self, tags: Vec<String>) {
        _ = self.tags.set(tags);
    }

    /// Its 101 has been let out.
    pub fn set_open(&self) {
        self.open.store(true, Relaxed);
    }

    /// Whether its 101 has been let out.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Its tags.
    pub fn tags(&self) -> &[String] {
        self.tags.get().map_or(&[], Vec::as_slice)
    }

    /// Whether it has one of these tags; none asked for: yes.
    pub fn has_any(&self, tags: &[String]) -> bool {
        tags.is_empty() || self.tags().iter().any(|tag| tags.contains(tag))
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> u64 {
        self.out.lock().bytes as u64
    }

    /// Queues a message, or leaves it out, or gives the connection up.
    pub fn push(&self, frame: Frame, how: Delivery) {
        let mut out = self.out.lock();
        if out.gone || out.close.is_some() {
            return;
        }
        let bytes = out.bytes + frame.len() + OVERHEAD;
        match how {
            Delivery::Droppable if bytes > self.limits.queue / 2 => return,
            // An empty queue takes any one message: else one that is longer than the queue could never leave.
            Delivery::Reliable if bytes > self.limits.queue && !out.queue.is_empty() => {
                let reason = "the client reads too slowly (rooms.queue)".to_owned();
                out.close = Some((1013, reason));
                out.cut = true;
                out.queue = VecDeque::new();
                out.bytes = 0;
            }
            _ => {
                out.bytes = bytes;
                out.queue.push_back(frame);
            }
        }
        drop(out);
        self.wake.notify_one();
    }

    /// Says goodbye behind what is queued.
    pub fn close(&self, code: u16, reason: &str) {
        {
            let mut out = self.out.lock();
            if out.gone || out.close.is_some() {
                return;
            }
            out.close = Some((code, reason.to_owned()));
        }
        self.wake.notify_one();
    }

    /// The room has dealt with one of its messages.
    pub fn handled(&self) {
        if self.in_mailbox.fetch_sub(1, Relaxed) >= WINDOW {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Next {
        let mut out = self.out.lock();
        if let Some(frame) = out.queue.pop_front() {
            out.bytes = out.bytes.saturating_sub(frame.len() + OVERHEAD);
            if out.queue.is_empty() {
                out.bytes = 0;
                if out.queue.capacity() > KEPT_CAPACITY {
                    out.queue = VecDeque::new();
                }
            }
            return Next::Frame(frame);
        }
        match &out.close {
            Some((code, reason)) => Next::Close(*code, reason.clone()),
            None => Next::Nothing,
        }
    }

    fn is_cut(&self) -> bool {
        self.out.lock().cut
    }

    fn leave(&self) {
        let mut out = self.out.lock();
        out.gone = true;
        out.queue = VecDeque::new();
        out.bytes = 0;
    }
}

enum Next {
    Frame(Frame),
    Close(u16, String),
    Nothing,
}

/// What a socket runs on: TCP itself, or a stream of HTTP/2.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a client may send: so many a second, and as many at once.
#[derive(Debug)]
struct Allowance {
    left: f64,
    rate: f64,
    since: Instant,
}

impl Allowance {
    fn new(rate: u32) -> Self {
        Self { left: f64::from(rate), rate: f64::from(rate), since: Instant::now() }
    }

    fn take(&mut self) -> bool {
        if self.left < 1.0 {
            let now = Instant::now();
            let gained = now.duration_since(self.since).as_secs_f64() * self.rate;
            self.left = (self.left + gained).min(self.rate);
            self.since = now;
        }
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// Serves a socket from the end of its handshake until it is gone, and tells the room.
pub async fn serve(
    stream: Box<dyn Stream>,
    already_read: Vec<u8>,
    socket: Arc<Socket>,
    mailbox: Arc<Mailbox>,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(socket.limits.message))
        .max_frame_size(Some(socket.limits.message));
    let stream = Counted::new(stream, socket.limits.frames, &already_read);
    let web =
        WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config))
            .await;
    let mut line = Line { web, socket: &socket, mailbox: &mailbox };
    let info = line.run().await;
    drop(line);
    socket.leave();
    mailbox.send(Input::Closed { id: socket.id, info });
}

struct Line<'a> {
    web: WebSocketStream<Counted<Box<dyn Stream>>>,
    socket: &'a Arc<Socket>,
    mailbox: &'a Arc<Mailbox>,
}

impl Line<'_> {
    async fn run(&mut self) -> CloseInfo {
        let limits = self.socket.limits;
        let mut allowance = Allowance::new(limits.rate);
        let mut heard = Instant::now();
        let mut pinged = false;
        let first = self.next_look(heard + limits.ping);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(first));
        // A message that waits for a place in the mailbox; nothing is read meanwhile.
        let mut waiting = None;
        loop {
            match self.write().await {
                Written::All => {}
                Written::Close(code, reason) => return self.goodbye(code, reason).await,
                Written::Broken => return broken(),
            }
            let reads = waiting.is_none() && self.socket.in_mailbox.load(Relaxed) < WINDOW;
            tokio::select! {
                biased;
                () = self.socket.wake.notified() => {}
                permit = async {
                    match &mut waiting {
                        Some((permit, _)) => std::pin::Pin::new(permit).await,
                        None => std::future::pending().await,
                    }
                } => {
                    if let (Some(permit), Some((_, frame))) = (permit, waiting.take()) {
                        self.deliver(frame, permit);
                    } else {
                        return self.goodbye(1013, "the room is closed".to_owned()).await;
                    }
                }
                read = self.web.next(), if reads => {
                    heard = Instant::now();
                    pinged = false;
                    let frame = match read {
                        Some(Ok(frame)) => frame,
                        Some(Err(error)) => return self.refuse(error).await,
                        None => return broken(),
                    };
                    if let Frame::Close(frame) = frame {
                        return self.farewell(frame).await;
                    }
                    if !allowance.take() {
                        let reason = format!(
                            "more than {} messages a second (rooms.rate)", limits.rate
                        );
                        return self.goodbye(1008, reason).await;
                    }
                    if !matches!(frame, Frame::Text(_) | Frame::Binary(_)) {
                        continue;
                    }
                    match self.mailbox.try_reserve() {
                        Some(permit) => self.deliver(frame, permit),
                        None => waiting = Some((Box::pin(self.mailbox.clone().reserve()), frame)),
                    }
                }
                () = &mut timer => {
                    if let Some(at) = self.socket.expires_at() && super::now() >= at {
                        return self.goodbye(4401, "the token has expired".to_owned()).await;
                    }
                    let now = Instant::now();
                    if !reads {
                        // What the client may have answered has not been looked at.
                        heard = now;
                        pinged = false;
                    }
                    if now >= heard + limits.ping * 2 && pinged {
                        return self.goodbye(1001, "no answer to pings".to_owned()).await;
                    }
                    if now >= heard + limits.ping && !pinged {
                        pinged = true;
                        let ping = self.web.send(Frame::Ping(bytes::Bytes::new()));
                        if tokio::time::timeout(GOODBYE, ping).await.is_err() {
                            return broken();
                        }
                    }
                    let next = if pinged { heard + limits.ping * 2 } else { heard + limits.ping };
                    timer.as_mut().reset(self.next_look(next.max(now + Duration::from_millis(1))));
                }
            }
        }
    }

    /// The earlier of this time and the token's end.
    fn next_look(&self, ping: Instant) -> Instant {
        match self.socket.expires_at() {
            Some(at) => {
                let left = Duration::from_millis(at.saturating_sub(super::now()).max(1));
                ping.min(Instant::now() + left)
            }
            None => ping,
        }
    }

    fn deliver(&self, frame: Frame, permit: super::mailbox::Permit) {
        self.socket.in_mailbox.fetch_add(1, Relaxed);
        self.mailbox.send(Input::Message { from: self.socket.clone(), frame, permit });
    }

    /// Writes what is queued. A client that takes nothing for long is as good as gone.
    async fn write(&mut self) -> Written {
        let patience = self.socket.limits.ping * 2;
        let mut wrote = false;
        loop {
            let next = self.socket.take();
            match next {
                Next::Frame(frame) => {
                    wrote = true;
                    fault::here(fault::Point::MidSend);
                    let fed = self.web.feed(frame);
                    if let Some(given_up) = unless_cut(self.socket, patience, fed).await {
                        return given_up;
                    }
                }
                Next::Close(..) | Next::Nothing if wrote => {
                    wrote = false;
                    let flushed = self.web.flush();
                    if let Some(given_up) = unless_cut(self.socket, patience, flushed).await {
                        return given_up;
                    }
                }
                Next::Close(code, reason) => return Written::Close(code, reason),
                Next::Nothing => return Written::All,
            }
        }
    }

    /// The host ends it: a close frame, and some patience for the client's.
    async fn goodbye(&mut self, code: u16, reason: String) -> CloseInfo {
        let text: String = cut_to(&reason, 123).to_owned();
        let frame = CloseFrame { code: CloseCode::from(code), reason: text.into() };
        let was_clean = tokio::time::timeout(GOODBYE, async {
            if self.web.send(Frame::Close(Some(frame))).await.is_err() {
                return false;
            }
            let mut answered = false;
            while let Some(Ok(frame)) = self.web.next().await {
                answered |= matches!(frame, Frame::Close(_));
            }
            answered
        })
        .await
        .unwrap_or(false);
        CloseInfo { code, reason, was_clean }
    }

    /// The client ends it: what tungstenite has queued as an answer leaves with the next calls.
    async fn farewell(&mut self, frame: Option<CloseFrame>) -> CloseInfo {
        _ = tokio::time::timeout(GOODBYE, async {
            while let Some(Ok(_)) = self.web.next().await {}
        })
        .await;
        match frame {
            Some(frame) => CloseInfo {
                code: frame.code.into(),
                reason: frame.reason.to_string(),
                was_clean: true,
            },
            None => CloseInfo { code: 1005, reason: String::new(), was_clean: true },
        }
    }

    /// The client broke the protocol, or a limit.
    async fn refuse(&mut self, error: Error) -> CloseInfo {
        let (code, reason) = match error {
            Error::Capacity(_) => {
                let limit = self.socket.limits.message;
                (1009, format!("a message has at most {limit} bytes here (rooms.message)"))
            }
            Error::Utf8(_) => (1007, "a text that is not UTF-8".to_owned()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return broken(),
            Error::Protocol(error) => (1002, error.to_string()),
            Error::Io(error)
                if error.get_ref().is_some_and(|cause| cause.is::<TooManyFrames>()) =>
            {
                let limit = self.socket.limits.frames;
                (1008, format!("more than {limit} frames a second (rooms.frames)"))
            }
            _ => return broken(),
        };
        let frame = CloseFrame { code: CloseCode::from(code), reason: cut_to(&reason, 123).into() };
        // What the client sends now can't be understood. It is read all the same for a while: a connection that
        // is closed with something unread is reset, and the client would not learn why.
        _ = tokio::time::timeout(GOODBYE, async {
            if self.web.send(Frame::Close(Some(frame))).await.is_ok() {
                let stream = self.web.get_mut();
                _ = stream.shutdown().await;
                let mut rest = vec![0; READ_BUFFER];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            }
        })
        .await;
        CloseInfo { code, reason, was_clean: false }
    }
}

/// Waits for a write, unless the connection is given up meanwhile.
async fn unless_cut(
    socket: &Socket,
    patience: Duration,
    written: impl Future<Output = Result<(), Error>>,
) -> Option<Written> {
    let mut written = std::pin::pin!(written);
    // As a rule there is room in the kernel's buffer, and nothing to wait for.
    if let Poll::Ready(result) = futures::poll!(written.as_mut()) {
        return result.is_err().then_some(Written::Broken);
    }
    let deadline = tokio::time::sleep(patience);
    let mut deadline = std::pin::pin!(deadline);
    loop {
        tokio::select! {
            biased;
            result = &mut written => return result.is_err().then_some(Written::Broken),
            () = socket.wake.notified() => if socket.is_cut() {
                // One more moment for what was half written: behind it comes the close frame.
                return match tokio::time::timeout(GOODBYE, written).await {
                    Ok(Ok(())) => None,
                    _ => Some(Written::Broken),
                };
            },
            () = &mut deadline => return Some(Written::Broken),
        }
    }
}

enum Written {
    All,
    Close(u16, String),
    Broken,
}

fn broken() -> CloseInfo {
    CloseInfo { code: 1006, reason: String::new(), was_clean: false }
}

/// At most so many bytes, and no half character.
fn cut_to(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
