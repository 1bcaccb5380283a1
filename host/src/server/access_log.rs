//! One line for each request.
//!
//! Owns the access log. It must never slow a request down: lines go through a bounded queue to a thread
//! that writes them, and when that thread can't keep up, lines are dropped and counted, not requests.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

/// Lines that may wait to be written.
const QUEUE: usize = 8192;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For a person at a terminal.
    Human,
    /// For a program: one JSON object.
    Json,
}

/// One finished request.
pub(super) struct Entry {
    pub(super) at: SystemTime,
    pub(super) peer: SocketAddr,
    pub(super) method: http::Method,
    pub(super) path: String,
    pub(super) version: http::Version,
    pub(super) status: u16,
    pub(super) plugin: Option<std::sync::Arc<crate::config::Plugin>>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) id: http::HeaderValue,
    /// The body did not come to its end.
    pub(super) cut: bool,
}

/// The way to the log.
pub struct AccessLog {
    sender: SyncSender<Entry>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(style: Style) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(&receiver, style))?;
        Ok(Self { sender, dropped: AtomicU64::new(0) })
    }

    pub(super) fn record(&self, entry: Entry) {
        if self.sender.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were dropped because the log could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

fn write(receiver: &Receiver<Entry>, style: Style) {
    let mut text = Vec::with_capacity(16 << 10);
    while let Ok(entry) = receiver.recv() {
        render(&mut text, &entry, style);
        // What came meanwhile goes out with the same write.
        while text.len() < 16 << 10
            && let Ok(entry) = receiver.try_recv()
        {
            render(&mut text, &entry, style);
        }
        _ = std::io::stderr().lock().write_all(&text);
        text.clear();
    }
}

fn render(text: &mut Vec<u8>, entry: &Entry, style: Style) {
    let plugin = entry.plugin.as_ref().map_or("-", |plugin| plugin.name.as_str());
    let id = entry.id.to_str().unwrap_or("-");
    let at = httpdate::fmt_http_date(entry.at);
    let micros = u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX);
    let written = match style {
        Style::Human => {
            let clock = at.get(17..25).unwrap_or("");
            let cut = if entry.cut { " (cut)" } else { "" };
            writeln!(
                text,
                "{clock} {} {:<6} {} {:>8} {:>9} {plugin} {id}{cut}",
                entry.status,
                entry.method,
                entry.path,
                bytes(entry.bytes),
                format!("{:.1}ms", micros as f64 / 1000.0),
            )
        }
        Style::Json => {
            let millis = entry
                .at
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
            let line = serde_json::json!({
                "type": "access",
                "time": millis,
                "peer": entry.peer.to_string(),
                "method": entry.method.as_str(),
                "path": entry.path,
                "protocol": format!("{:?}", entry.version),
                "status": entry.status,
                "plugin": plugin,
                "bytes": entry.bytes,
                "micros": micros,
                "id": id,
                "cut": entry.cut,
            });
            writeln!(text, "{line}")
        }
    };
    // Writing to memory does not fail.
    drop(written);
}

fn bytes(count: u64) -> String {
    match count {
        0..1000 => format!("{count}B"),
        1000..1_000_000 => format!("{:.1}kB", count as f64 / 1e3),
        _ => format!("{:.1}MB", count as f64 / 1e6),
    }
}
