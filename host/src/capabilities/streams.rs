//! Between the storage's streams and those of `wasi:io`.
//!
//! Owns the two directions. Neither buffers more than one piece: what the other side does not take stays
//! where it is.

use crate::storage::{StoreError, ValueStream};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamError, StreamResult};

/// Bytes to ask a guest's stream for at a time.
const PIECE: usize = 64 << 10;

/// A value, as a guest reads it.
pub(super) struct ValueInput {
    body: BoxStream<'static, Result<Bytes, StoreError>>,
    piece: Bytes,
    end: Option<StreamEnd>,
}

enum StreamEnd {
    Closed,
    Failed,
}

impl ValueInput {
    pub(super) fn new(value: ValueStream) -> Self {
        Self { body: value.body, piece: Bytes::new(), end: None }
    }
}

#[async_trait]
impl Pollable for ValueInput {
    async fn ready(&mut self) {
        while self.piece.is_empty() && self.end.is_none() {
            match self.body.next().await {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    tracing::error!("a value could not be read to its end: {error}");
                    self.end = Some(StreamEnd::Failed);
                }
                None => self.end = Some(StreamEnd::Closed),
            }
        }
    }
}

impl InputStream for ValueInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if !self.piece.is_empty() {
            return Ok(self.piece.split_to(size.min(self.piece.len())));
        }
        match self.end {
            Some(StreamEnd::Closed) => Err(StreamError::Closed),
            Some(StreamEnd::Failed) => {
                Err(StreamError::LastOperationFailed(wasmtime::format_err!("the storage failed")))
            }
            None => Ok(Bytes::new()),
        }
    }
}

/// What a guest gives, as the storage takes it.
pub(super) fn from_guest(stream: DynInputStream) -> BoxStream<'static, Result<Bytes, StoreError>> {
    futures::stream::try_unfold(stream, |mut stream| async move {
        loop {
            match stream.read(PIECE) {
                Ok(piece) if piece.is_empty() => stream.ready().await,
                Ok(piece) => return Ok(Some((piece, stream))),
                Err(StreamError::Closed) => return Ok(None),
                Err(error) => {
                    return Err(StoreError::Invalid(format!(
                        "the stream ended before its end: {error}"
                    )));
                }
            }
        }
    })
    .boxed()
}
