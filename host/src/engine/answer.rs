//! The way of an answer from a guest's task to the request's.
//!
//! Owns that there is one answer at most, and that a guest whose answer nobody waits for is stopped.

use super::failure::Failure;
use super::lane::Stop;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// Where the answer goes, once.
pub(super) struct Answer {
    pub(super) sender: Mutex<Option<AnswerSender>>,
    /// Whether the guest ended in the middle of the body.
    pub(super) broken: Arc<AtomicBool>,
}

pub(super) type AnswerSender = oneshot::Sender<Result<http::Response<WasiBody>, Failure>>;

impl Answer {
    /// Whether nothing was given yet.
    pub(super) fn is_open(&self) -> bool {
        self.sender.lock().is_some()
    }

    pub(super) fn give(&self, answer: Result<http::Response<WasiBody>, Failure>) {
        if let Some(sender) = self.sender.lock().take() {
            // Nobody is there when the client went away.
            _ = sender.send(answer);
        }
    }
}

/// Stops the run unless the answer came.
pub(super) struct StopUnlessAnswered<'a>(pub(super) &'a Stop, pub(super) bool);

impl Drop for StopUnlessAnswered<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.stop();
        }
    }
}
