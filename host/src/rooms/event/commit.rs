//! The end of a transaction, and the ends that come before it.
//!
//! Owns how what an event did becomes a commit, and the order of commits. In the middle of an event some steps
//! must not begin before what was written is durable: a request to another server, a call of another room.

use super::{Answer, Event};
use crate::rooms::fault;
use crate::rooms::gate::{Effect, Pending};
use crate::rooms::state::open_row;
use crate::storage::rooms::{Commit, CommitError, MetaWrite, RoomMeta, RoomWrite, Table};
use guesthouse_bindings::rooms::types::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

impl Event {
    /// Makes it true: the room's memory changes, and the writes get their place in the storage's order. What
    /// comes after is a new transaction.
    ///
    /// # Errors
    /// The storage takes no more commits of this room: its memory can't be trusted any more.
    pub async fn submit(&mut self) -> Result<Pending, CommitError> {
        // The order of commits is that of the events.
        if let Some(accepted) = self.room.accepting.take() {
            accepted.await?;
        }
        let Made { number, commit, effects } = self.make();
        let Some(commit) = commit else { return Ok(Pending { number, durable: None, effects }) };
        let durable = self.room.store.commit(commit).await?;
        Ok(Pending { number, durable: Some(durable), effects })
    }

    /// What the event did since the last time, as memory knows it from now on.
    fn make(&mut self) -> Made {
        if let Some(pair) = self.auto_response.take() {
            self.room.auto_response = pair;
        }
        if let Some(prefixes) = self.relay.take() {
            self.room.relay = prefixes;
        }
        for (id, rule) in std::mem::take(&mut self.rules) {
            match self.room.connections.get_mut(&id) {
                Some(connection) => connection.rule = rule,
                // Of the connection that is being made: it is set when the room lets it in.
                None => _ = self.rules.insert(id, rule),
            }
        }
        for (id, attachment) in std::mem::take(&mut self.attachments) {
            match self.room.connections.get_mut(&id) {
                Some(connection) => {
                    connection.attachment = attachment;
                    self.rows.push(open_row(&connection.socket, &connection.attachment));
                }
                // Of the connection that is being made: its row is written when the room lets it in.
                None => _ = self.attachments.insert(id, attachment),
            }
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.effect_bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        let rows = std::mem::take(&mut self.rows);
        self.write_bytes = 0;
        if !writes.is_empty() {
            self.meta.schema = self.meta.schema.max(self.limits.schema);
        }
        let meta =
            (self.meta != self.room.meta || (!writes.is_empty() && !self.room.exists)).then(|| {
                if self.meta.keys == 0 && self.meta.alarm.is_none() {
                    MetaWrite::Delete
                } else {
                    MetaWrite::Put(self.meta)
                }
            });
        if writes.is_empty() && rows.is_empty() && meta.is_none() {
            return Made { number: self.room.note(&writes), commit: None, effects };
        }
        let due = |meta: &RoomMeta| meta.alarm.and_then(|alarm| alarm.due);
        let due_before = due(&self.room.meta);
        if let Some(at) = due(&self.meta)
            && due_before != Some(at)
        {
            effects.push(Effect::Arm(self.room.alarms.clone(), at));
        }
        let number = self.room.note(&writes);
        let data =
            writes.into_iter().map(|(key, value)| RoomWrite { table: Table::Data, key, value });
        let commit = Commit {
            room: self.room.key.clone(),
            epoch: self.room.epoch,
            writes: data.chain(rows).collect(),
            meta,
            due_before,
        };
        if let Some(meta) = meta {
            self.room.exists = matches!(meta, MetaWrite::Put(_));
            let before = self.room.meta;
            self.room.meta = if self.room.exists { self.meta } else { RoomMeta::default() };
            self.room.usage.change(&before, &self.room.meta);
            self.meta = self.room.meta;
        }
        fault::here(fault::Point::BeforeCommit);
        Made { number, commit: Some(commit), effects }
    }

    /// As [`Self::make`], in the middle of an event. The alarm that rings stays set until the event has ended
    /// well: a crash before must not lose it.
    fn make_early(&mut self) -> Made {
        let ringing = self.ringing.filter(|_| self.meta.alarm.is_none());
        if ringing.is_some() {
            self.meta.alarm = ringing;
        }
        let made = self.make();
        if ringing.is_some() {
            self.meta.alarm = None;
        }
        made
    }

    /// `self-room.commit`
    pub async fn commit_now(&mut self) -> Answer<()> {
        self.commit_soon().await.map_err(|NotKept| Error::Unavailable)
    }

    /// Makes true what the event did so far. The future resolves when that is durable, with all events before;
    /// the event may go on meanwhile, and whatever becomes of it, what is made true here stays.
    pub fn commit_soon(&mut self) -> impl Future<Output = Result<(), NotKept>> + Send + use<> {
        let before = self.room.accepting.take();
        let Made { number, commit, mut effects } = self.make_early();
        let (done, committed) = oneshot::channel();
        effects.push(Effect::Committed(done));
        let durable = match commit {
            None => {
                self.room.accepting = before;
                None
            }
            Some(commit) => {
                let (settled, durable) = oneshot::channel();
                let committing = self.room.store.commit(commit);
                // The guest is in a call that does not wait: if the storage's queue has no place at once, the
                // next commit of this room waits in its stead.
                self.room.accepting = Some(Accepting(tokio::spawn(async move {
                    let accepted = match before {
                        Some(before) => before.await,
                        None => Ok(()),
                    };
                    let accepted = match accepted {
                        Ok(()) => committing.await,
                        Err(error) => Err(error),
                    };
                    match accepted {
                        Ok(durable) => {
                            tokio::spawn(async move {
                                // Nobody listens when the room was given up.
                                _ = settled.send(durable.await.unwrap_or_else(|_| Err(closed())));
                            });
                            Ok(())
                        }
                        Err(error) => {
                            _ = settled.send(Err(error.clone()));
                            Err(error)
                        }
                    }
                })));
                Some(durable)
            }
        };
        // If the room is given up, so is what it lets out, and with it the sender for whom is waited here.
        _ = self.early.send(Pending { number, durable, effects });
        async move { committed.await.map_err(|_| NotKept) }
    }
}

/// What an event did so far could not be kept; the room's log says why, and its connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept;

/// What an event did, in words of the storage.
struct Made {
    number: u64,
    commit: Option<Commit>,
    effects: Vec<Effect>,
}

/// A commit that may not have its place in the storage's order yet. Dropped, it gives up on it.
pub struct Accepting(JoinHandle<Result<(), CommitError>>);

impl Future for Accepting {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or_else(|_| Err(closed())))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn closed() -> CommitError {
    CommitError::Unavailable("the storage is closed".to_owned())
}
