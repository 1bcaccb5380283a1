//! `guesthouse:rooms/peers`: calls of other rooms, and messages to them.
//!
//! Owns which plugin may call which rooms, and what must hold before a call leaves. Who calls, and for whom, the
//! host says: nothing that a guest puts into a call is taken for an identity. The dangers that shaped it: rooms
//! that wait for each other in a ring, and a call that leaves before what it rests on is durable.

use crate::auth::Caller;
use crate::rooms::event::Event;
use crate::rooms::{Asked, Doorway, RoomFailure, door};
use crate::storage::rooms::RoomKey;
use guesthouse_bindings::rooms::peers::{self, CallRequest, RoomRef};
use guesthouse_bindings::rooms::types::{Error, Peer, Request, Response};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

/// Bytes of the body of a call, and of its answer.
const BODY: usize = 16 << 20;
/// Rooms that may wait for each other in a row.
const DEEPEST: usize = 8;

/// What one plugin may call.
pub struct PeerGrants {
    plugin: Arc<str>,
    classes: Vec<String>,
    doorway: Arc<Doorway>,
    patience: Duration,
}

impl PeerGrants {
    /// *Configure*.
    #[must_use]
    pub fn new(
        plugin: &str,
        classes: &[String],
        doorway: &Arc<Doorway>,
        patience: Duration,
    ) -> Self {
        let (plugin, classes, doorway) = (plugin.into(), classes.to_vec(), doorway.clone());
        Self { plugin, classes, doorway, patience }
    }
}

/// *Prepare*: how an instance sees other rooms.
pub struct PeersView<'a> {
    /// What its plugin may call.
    pub grants: &'a PeerGrants,
    /// The event that runs; none: a plain request is answered.
    pub event: Option<&'a mut Event>,
    /// For whom.
    pub caller: Option<Arc<Caller>>,
}

/// Names [`PeersView`] for the linker.
pub struct HasPeers;

impl HasData for HasPeers {
    type Data<'a> = PeersView<'a>;
}

/// *Link*.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> PeersView<'_>,
) -> Result<()> {
    peers::add_to_linker::<T, HasPeers>(linker, view)
}

type Answer<T> = std::result::Result<T, Error>;

impl PeersView<'_> {
    /// Which room is meant, if it is granted.
    fn granted(&self, to: RoomRef, body: usize) -> Answer<RoomKey> {
        let plugin = &self.grants.plugin;
        if !self.grants.classes.contains(&to.class) {
            tracing::warn!(
                plugin = %plugin,
                "a call of a room of `{}` was denied. To allow it, add \"{0}\" to `peers` of [plugins.{plugin}]",
                to.class.escape_debug()
            );
            return Err(Error::Denied(format!(
                "rooms of that class are not granted (peers of [plugins.{plugin}])"
            )));
        }
        if !door::is_name(&to.name) {
            return Err(Error::Invalid(door::Closed::Name.to_string()));
        }
        if body > BODY {
            return Err(Error::Limit(format!("the body of a call has at most {BODY} bytes")));
        }
        Ok(RoomKey { plugin: to.class.into(), name: to.name.into() })
    }

    /// The same, if it may also be waited for.
    fn callable(&self, to: RoomRef, body: usize) -> Answer<RoomKey> {
        let key = self.granted(to, body)?;
        if let Some(event) = &self.event {
            if event.room.key == key || event.waiting.contains(&key) {
                return Err(Error::WouldDeadlock);
            }
            if event.waiting.len() + 1 >= DEEPEST {
                let text = format!("at most {DEEPEST} rooms may wait for each other in a row");
                return Err(Error::Limit(text));
            }
        }
        Ok(key)
    }

    async fn ask(&mut self, to: RoomRef, request: CallRequest) -> Answer<Response> {
        let key = self.callable(to, request.body.len())?;
        let rooms = self.grants.doorway.rooms().ok_or(Error::Unavailable)?;
        let mut asked = self.asked(request);
        if let Some(event) = &mut self.event {
            event.commit_now().await?;
            asked.waiting = event.waiting.iter().chain([&event.room.key]).cloned().collect();
        }
        let answer = rooms.call(&key, asked);
        let answer = tokio::time::timeout(self.grants.patience, answer).await;
        match answer.map_err(|_| Error::Timeout)? {
            Ok(response) if response.body.len() > BODY => {
                Err(Error::Limit(format!("the answer has more than {BODY} bytes")))
            }
            Ok(response) => Ok(response),
            Err(failure) => Err(self.explain(&key, &failure)),
        }
    }

    /// What the other room is given; nobody waits for it yet.
    fn asked(&self, request: CallRequest) -> Asked {
        let CallRequest { method, path_with_query, headers, body } = request;
        let room = self.event.as_ref().map(|event| event.room.key.name.to_string());
        let peer = Some(Peer { plugin: self.grants.plugin.to_string(), room });
        let request = Request { method, path_with_query, headers, body, principal: None, peer };
        Asked { request, caller: self.caller.clone(), waiting: Arc::default() }
    }

    fn send(&mut self, to: RoomRef, request: CallRequest) -> Answer<()> {
        let key = self.granted(to, request.body.len())?;
        let rooms = self.grants.doorway.rooms().ok_or(Error::Unavailable)?;
        let asked = self.asked(request);
        match &mut self.event {
            Some(event) => event.post(rooms, key, asked),
            None => {
                rooms.post(&key, asked);
                Ok(())
            }
        }
    }

    /// What a failure of the other room means to this one; the log has heard of the failures of guests already.
    fn explain(&self, to: &RoomKey, failure: &RoomFailure) -> Error {
        match failure {
            RoomFailure::Guest(_) | RoomFailure::Refused(_) => Error::Failed,
            RoomFailure::Gone => Error::NotFound,
            RoomFailure::Busy(_) | RoomFailure::Full(_) | RoomFailure::AllFull(_) => {
                Error::Limit(failure.to_string())
            }
            RoomFailure::Storage
            | RoomFailure::Schema { .. }
            | RoomFailure::NoInstance
            | RoomFailure::Resting(_)
            | RoomFailure::Closing => {
                tracing::warn!(plugin = %self.grants.plugin, "a call of room {to} failed: {failure}");
                Error::Unavailable
            }
        }
    }
}

impl peers::Host for PeersView<'_> {
    async fn call(&mut self, to: RoomRef, request: CallRequest) -> Result<Answer<Response>> {
        Ok(self.ask(to, request).await)
    }

    async fn post(&mut self, to: RoomRef, request: CallRequest) -> Result<Answer<()>> {
        Ok(self.send(to, request))
    }
}
