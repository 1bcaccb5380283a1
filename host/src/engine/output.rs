//! What guests print becomes log records.
//!
//! Owns the way from a guest's standard output and error to the log, one record a line, with plugin and
//! version. It must never let a guest forge a record (control characters are escaped), fill memory (a
//! line is cut at [`LINE`]), fill the log (`limits.log`), or block the thread that runs it.

use super::state::Context as Shared;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// Bytes of one record; what is longer is cut into several.
const LINE: usize = 4096;
/// Bytes that a guest may hand over at a time.
const PERMIT: usize = 64 << 10;

/// Which of the two streams.
#[derive(Clone, Copy, Debug)]
pub(super) enum Channel {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Standard output or error of a guest.
#[derive(Clone)]
pub(super) struct LogOutput {
    context: Arc<Shared>,
    channel: Channel,
    rest: Arc<parking_lot::Mutex<Vec<u8>>>,
}

impl LogOutput {
    /// The stream of an instance of this plugin.
    pub(super) fn new(context: Arc<Shared>, channel: Channel) -> Self {
        Self { context, channel, rest: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut rest = self.rest.lock();
        for byte in bytes {
            if *byte == b'\n' {
                self.record(&rest);
                rest.clear();
            } else {
                rest.push(*byte);
                if rest.len() >= LINE {
                    self.record(&rest);
                    rest.clear();
                }
            }
        }
    }

    fn record(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\r');
        if text.is_empty() {
            return;
        }
        let (plugin, quota) = (&self.context.name, &self.context.lines);
        let dropped = |number| {
            format!(
                "{number} lines that the plugin printed before this one were dropped (limits.log)"
            )
        };
        let beyond = |most| {
            format!(
                "the plugin prints more than {most} lines in a second: the rest of them is dropped (limits.log)"
            )
        };
        if !quota.admits(plugin, dropped, beyond) {
            return;
        }
        let text: String = text
            .chars()
            .flat_map(|c| {
                let escape = c.is_control() && c != '\t';
                let escaped = escape.then(|| c.escape_default()).into_iter().flatten();
                escaped.chain((!escape).then_some(c))
            })
            .collect();
        match self.channel {
            Channel::Out => tracing::info!(target: "plugin", %plugin, "{text}"),
            Channel::Err => tracing::warn!(target: "plugin", %plugin, "{text}"),
        }
    }
}

impl Drop for LogOutput {
    fn drop(&mut self) {
        if Arc::strong_count(&self.rest) == 1 {
            let rest = std::mem::take(&mut *self.rest.lock());
            self.record(&rest);
        }
    }
}

impl IsTerminal for LogOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for LogOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for LogOutput {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(PERMIT)
    }
}
