//! The way of log lines to standard error.
//!
//! Owns a bounded queue and the thread that writes. It must never make whoever logs wait: standard error may be
//! a pipe that nobody reads, and a serving thread that waits for it would stop the whole house. Lines that find
//! the queue full are dropped and counted, and the count is said as soon as there is room again.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE: usize = 8192;
/// Bytes that are written at a time.
const BATCH: usize = 64 << 10;
/// How long the end of the process waits for the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);
static SENDER: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Makes the lines of `tracing`.
#[derive(Clone, Debug)]
pub struct LogWriter(SyncSender<Message>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl LogWriter {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write(&receiver, std::io::stderr()))?;
        _ = SENDER.set(sender.clone());
        Ok(Self(sender))
    }
}

/// Waits, for a second at most, until what was logged is written. For the end of the process.
pub fn flush() {
    let Some(sender) = SENDER.get() else { return };
    let (done, wait) = sync_channel(1);
    if sender.try_send(Message::Flush(done)).is_ok() {
        _ = wait.recv_timeout(LAST_WORDS);
    }
}

/// One record; sent when it is dropped.
#[derive(Debug)]
pub struct Line {
    bytes: Vec<u8>,
    sender: SyncSender<Message>,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::with_capacity(256), sender: self.0.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = Message::Line(std::mem::take(&mut self.bytes));
        if let Err(TrySendError::Full(_)) = self.sender.try_send(line) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
}

fn write(receiver: &Receiver<Message>, mut out: impl Write) {
    let mut batch = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let mut flushed = Vec::new();
        while let Some(message) = next {
            match message {
                Message::Line(line) => batch.extend_from_slice(&line),
                Message::Flush(done) => flushed.push(done),
            }
            next = if batch.len() < BATCH { receiver.try_recv().ok() } else { None };
        }
        let dropped = DROPPED.swap(0, Relaxed);
        if dropped > 0 {
            batch.extend_from_slice(
                format!("{{\"level\":\"WARN\",\"message\":\"{dropped} log lines were dropped: standard error takes them too slowly\"}}\n").as_bytes(),
            );
        }
        // Where nobody can be told, nobody is told.
        _ = out.write_all(&batch);
        batch.clear();
        for done in flushed {
            _ = done.try_send(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A standard error that nobody reads until its gate is gone.
    struct Stuck {
        gate: Receiver<()>,
        taken: std::sync::mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            _ = self.gate.recv();
            _ = self.taken.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_does_not_wait_for_a_reader_who_is_told_later_what_is_missing() {
        const LOGGED: usize = QUEUE * 3;
        let (sender, receiver) = sync_channel(QUEUE);
        let (release, gate) = std::sync::mpsc::channel();
        let (taken, read) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || write(&receiver, Stuck { gate, taken }));
        let writer = LogWriter(sender);
        for _ in 0..LOGGED {
            _ = writeln!(writer.make_writer(), "a line of the log that is of some length");
        }
        drop((release, writer));
        thread.join().unwrap();
        let text: String = read.iter().collect();
        let (notes, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with('{'));
        let dropped: usize = notes
            .iter()
            .filter_map(|note| {
                note.split("\"message\":\"").nth(1)?.split(' ').next()?.parse::<usize>().ok()
            })
            .sum();
        assert!(dropped > 0, "{notes:?}");
        assert_eq!(lines.len() + dropped, LOGGED, "{notes:?}");
    }
}
