//! The alarms of all rooms.
//!
//! Owns the moment at which an alarm reaches its room. The durable index is the truth; what is remembered here
//! is only when to look next, and what has been handed to a room that has not answered yet. The danger that
//! shaped it: a hundred thousand alarms for the same second, each of which wants an instance.

use super::mailbox::Input;
use super::{Active, Rooms, now};
use crate::storage::rooms::RoomKey;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Alarms that rooms are dealing with at a time.
const AT_WORK: usize = 256;
/// Alarms that are read from the index at a time.
const PAGE: usize = 256;
/// How long to wait after the storage failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Milliseconds after which alarms are looked at again whose plugin is being compiled.
const POSTPONED: u64 = 500;
/// It is looked at least so often: clocks of machines are set now and then.
const LOOK: Duration = Duration::from_secs(30);

/// What is known of alarms without reading the index.
#[derive(Default)]
pub struct Alarms {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// When to look next.
    next: Option<u64>,
    at_work: HashSet<(u64, RoomKey)>,
}

impl Alarms {
    /// An alarm has been set, and is durable.
    pub fn armed(&self, due: u64) {
        let mut state = self.state.lock();
        if state.next.is_none_or(|next| due < next) {
            state.next = Some(due);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A room has dealt with its alarm.
    pub fn done(&self, room: &RoomKey, due: u64) {
        let mut state = self.state.lock();
        if state.at_work.remove(&(due, room.clone())) && state.at_work.len() + 1 >= AT_WORK {
            drop(state);
            self.changed.notify_one();
        }
    }

    fn start(&self, room: &RoomKey, due: u64) -> bool {
        let mut state = self.state.lock();
        state.at_work.len() < AT_WORK && state.at_work.insert((due, room.clone()))
    }

    fn is_full(&self) -> bool {
        self.state.lock().at_work.len() >= AT_WORK
    }

    /// Hands alarms to rooms, for ever.
    pub(super) async fn run(rooms: Arc<Rooms>) {
        let alarms = rooms.alarms.clone();
        loop {
            match alarms.look(&rooms).await {
                Ok(next) => {
                    let mut state = alarms.state.lock();
                    state.next = match (state.next, next) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                Err(error) => {
                    tracing::error!("alarms can't be read: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            let next = alarms.state.lock().next;
            let wait = next.map_or(LOOK, |next| Duration::from_millis(next.saturating_sub(now())));
            // At work with as many as may be: whoever is done first says so.
            let wait = if alarms.is_full() { LOOK } else { wait.min(LOOK) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = alarms.changed.notified() => {}
            }
        }
    }

    /// Hands out what is due. When the next one is.
    async fn look(&self, rooms: &Arc<Rooms>) -> Result<Option<u64>, crate::storage::StoreError> {
        // What is armed from here on is not in what is read below, or is: both are well.
        self.state.lock().next = None;
        let mut after = None;
        // Some plugin is being made ready: its alarms are due as soon as it is.
        let mut postponed = None;
        loop {
            let page = rooms.store.alarms(after.clone(), PAGE).resolve().await?;
            if page.is_empty() {
                return Ok(postponed);
            }
            for (due, room) in &page {
                if *due > now() {
                    return Ok(postponed.or(Some(*due)));
                }
                if self.is_full() {
                    return Ok(Some(*due));
                }
                // A plugin that is not there keeps its alarms until it is.
                match rooms.versions.active(room) {
                    Active::Ready(_) if self.start(room, *due) => {
                        rooms.deliver(room, Input::Alarm { due: *due });
                    }
                    Active::Later => postponed = Some(now().saturating_add(POSTPONED)),
                    Active::Ready(_) | Active::Gone => {}
                }
            }
            after = page.last().cloned();
        }
    }
}
