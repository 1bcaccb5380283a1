//! Bodies, in and out.
//!
//! A body that is handed on is moved within the host and never enters the plugin's memory, unless someone
//! watches it.

use crate::bindings::wasi::http0_2_12::types::IncomingBody as Resource;
use crate::bindings::wasi::io::poll::Pollable;
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::upload::{Upload, wait};

/// Bytes that are moved at a time.
pub(crate) const PIECE: u64 = 1 << 20;
/// Bytes that are read at a time.
pub(crate) const READ: u64 = 64 << 10;

/// A body on its way in: of a request that came, or of the response to one that was sent.
pub struct IncomingBody {
    // Before its parent: a body can't go while its stream is there.
    stream: InputStream,
    _parent: Resource,
    /// What is still to be sent of the request that this is the answer to.
    upload: Option<Box<Upload>>,
}

impl IncomingBody {
    pub(crate) fn new(parent: Resource) -> Option<Self> {
        Some(Self { stream: parent.stream().ok()?, _parent: parent, upload: None })
    }

    /// The same; whoever reads it sends this on the way.
    pub(crate) fn sending(mut self, upload: Option<Upload>) -> Self {
        self.upload = upload.map(Box::new);
        self
    }

    /// Sends a piece of what is still to be sent, if that can be done without waiting; whether something happened.
    pub(crate) fn push(&mut self) -> bool {
        let Some(upload) = self.upload.take() else { return false };
        let (rest, moved) = upload.step();
        self.upload = rest.map(Box::new);
        moved
    }

    pub(crate) fn stream(&self) -> &InputStream {
        &self.stream
    }

    /// Adds what tells that there is something to read, or room to send.
    pub(crate) fn subscribe(&self, into: &mut Vec<Pollable>) {
        into.push(self.stream.subscribe());
        if let Some(upload) = &self.upload {
            upload.subscribe(into);
        }
    }

    /// The next bytes, as soon as there are any; none at the end.
    ///
    /// # Errors
    /// The other side went away, or was silent for too long.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        loop {
            let mut moved = true;
            let found = if self.upload.is_some() {
                moved = self.push();
                self.stream.read(READ)
            } else {
                self.stream.blocking_read(READ)
            };
            match found {
                Ok(bytes) if bytes.is_empty() => {
                    if !moved {
                        let mut all = Vec::new();
                        self.subscribe(&mut all);
                        wait(&all);
                    }
                }
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(_)) => return Err(Cut),
            }
        }
    }

    /// Hands the stream over, to an import that reads it to its end: the bytes do not enter the plugin's memory. Of an
    /// answer, the request is sent to its end first.
    pub fn give<T>(mut self, take: impl FnOnce(InputStream) -> T) -> T {
        while self.upload.is_some() {
            if !self.push()
                && let Some(upload) = &self.upload
            {
                let mut all = Vec::new();
                upload.subscribe(&mut all);
                wait(&all);
            }
        }
        let Self { stream, _parent, .. } = self;
        take(stream)
    }

    /// Everything, if it is no more than so many bytes.
    ///
    /// # Errors
    /// It is more, or was cut.
    pub fn read_all(&mut self, most: usize) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while let Some(piece) = self.read().map_err(|Cut| ReadError::Cut)? {
            if all.len() + piece.len() > most {
                return Err(ReadError::TooLarge);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// A stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

/// Why a body could not be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The other side went away, or was silent for too long.
    Cut,
    /// It is larger than asked for.
    TooLarge,
}

/// Sees a body pass.
pub trait Watch {
    /// Bytes that have been passed on already: however long this takes, it delays none of them.
    fn piece(&mut self, bytes: &[u8]);

    /// Called last; `whole` tells whether the body came to its end and was taken.
    fn end(self: Box<Self>, whole: bool);
}

/// A body on its way out.
pub enum Body {
    /// Nothing.
    Empty,
    /// These bytes. An answer says how many they are (`content-length`), unless its header fields say so already.
    Bytes(Vec<u8>),
    /// What the stream gives; it does not enter the plugin's memory.
    Stream(InputStream),
    /// What came in; it does not enter the plugin's memory.
    Incoming(IncomingBody),
    /// What came in, of which the rest is still in the stream.
    Rest(Vec<u8>, IncomingBody),
    /// What came in, under someone's eyes.
    Watched(IncomingBody, Box<dyn Watch>),
    /// What a function makes, piece by piece; none ends the body, an error cuts it.
    Pieces(Box<dyn FnMut() -> Option<Result<Vec<u8>, Cut>>>),
}

impl Body {
    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Sends everything, and gives back who watched: to be told when the message is finished.
    pub(crate) fn send(
        self,
        to: &OutputStream,
    ) -> (Result<(), StreamError>, Option<Box<dyn Watch>>) {
        match self {
            Self::Empty => (Ok(()), None),
            Self::Bytes(bytes) => (write_all(to, &bytes), None),
            Self::Stream(from) => (splice(to, &from), None),
            Self::Incoming(from) => (hand_on(to, from), None),
            Self::Rest(first, from) => {
                (write_all(to, &first).and_then(|()| hand_on(to, from)), None)
            }
            Self::Watched(mut from, mut watch) => {
                let sent = watched(to, &mut from, watch.as_mut());
                (sent, Some(watch))
            }
            Self::Pieces(mut next) => {
                let sent = loop {
                    match next() {
                        None => break Ok(()),
                        Some(Err(Cut)) => break Err(StreamError::Closed),
                        Some(Ok(piece)) => {
                            if let Err(error) = write_all(to, &piece).and_then(|()| to.flush()) {
                                break Err(error);
                            }
                        }
                    }
                };
                (sent, None)
            }
        }
    }
}

fn watched(
    to: &OutputStream,
    from: &mut IncomingBody,
    watch: &mut dyn Watch,
) -> Result<(), StreamError> {
    loop {
        match from.read() {
            Ok(Some(piece)) => {
                let sent = write_all(to, &piece);
                watch.piece(&piece);
                sent?;
            }
            Ok(None) => return Ok(()),
            Err(Cut) => return Err(StreamError::Closed),
        }
    }
}

/// Writes as much as the host takes at a time.
fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let permit = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if permit == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(permit.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    Ok(())
}

/// Moves everything of a body, and sends what is still to be sent of the request that it answers.
fn hand_on(to: &OutputStream, mut from: IncomingBody) -> Result<(), StreamError> {
    while from.upload.is_some() {
        let pushed = from.push();
        match to.splice(&from.stream, PIECE) {
            Ok(0) if !pushed => {
                let mut all = Vec::new();
                if to.check_write()? == 0 {
                    all.push(to.subscribe());
                    if let Some(upload) = &from.upload {
                        upload.subscribe(&mut all);
                    }
                } else {
                    from.subscribe(&mut all);
                }
                wait(&all);
            }
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    splice(to, &from.stream)
}

/// Moves everything from one stream to the other within the host.
fn splice(to: &OutputStream, from: &InputStream) -> Result<(), StreamError> {
    loop {
        match to.blocking_splice(from, PIECE) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// All fields that are texts.
pub(crate) fn texts(fields: Vec<(String, Vec<u8>)>) -> Vec<(String, String)> {
    let text = |(name, value): (String, Vec<u8>)| Some((name, String::from_utf8(value).ok()?));
    fields.into_iter().filter_map(text).collect()
}
