//! `guesthouse:rooms`: what a room may ask of the host.
//!
//! Owns the translation between the interface and an event of a room. Everything that a guest asks for here
//! becomes part of its event, and is undone with it; the limits are the event's.

use crate::rooms::event::{Event, PAGE_PAIRS};
use crate::rooms::relay::{Piece, Rule};
use crate::rooms::socket::Frame;
use guesthouse_bindings::rooms::connections::{Audience, Delivery, RelayPiece, RelayRule};
use guesthouse_bindings::rooms::storage::{Footprint, KeyRange, Pair};
use guesthouse_bindings::rooms::types::{ConnId, Connection, Error, Message};
use guesthouse_bindings::rooms::{alarms, connections, self_room, storage, types};
use wasmtime::component::{HasData, Linker};
use wasmtime::{Result, format_err};

/// How an instance sees its room.
pub struct RoomView<'a> {
    /// The event that runs; none: the instance is none of a room.
    pub event: Option<&'a mut Event>,
}

impl RoomView<'_> {
    /// A component that answers plain requests has no room to speak of.
    fn event(&mut self) -> Result<&mut Event> {
        self.event.as_deref_mut().ok_or_else(|| {
            format_err!("guesthouse:rooms can only be called while an event of a room runs")
        })
    }
}

/// Names [`RoomView`] for the linker.
pub struct HasRoom;

impl HasData for HasRoom {
    type Data<'a> = RoomView<'a>;
}

/// *Link*.
///
/// # Errors
/// The linker has one of the interfaces already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> RoomView<'_>,
) -> Result<()> {
    types::add_to_linker::<T, HasRoom>(linker, view)?;
    self_room::add_to_linker::<T, HasRoom>(linker, view)?;
    storage::add_to_linker::<T, HasRoom>(linker, view)?;
    alarms::add_to_linker::<T, HasRoom>(linker, view)?;
    connections::add_to_linker::<T, HasRoom>(linker, view)
}

type Answer<T> = Result<std::result::Result<T, Error>>;

fn to_frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::text(text),
        Message::Binary(bytes) => Frame::binary(bytes),
    }
}

impl types::Host for RoomView<'_> {}

impl self_room::Host for RoomView<'_> {
    fn name(&mut self) -> Result<String> {
        Ok(self.event()?.room.key.name.to_string())
    }

    fn epoch(&mut self) -> Result<u64> {
        Ok(self.event()?.room.epoch)
    }

    fn now(&mut self) -> Result<u64> {
        Ok(self.event()?.now)
    }

    async fn commit(&mut self) -> Answer<()> {
        Ok(self.event()?.commit_now().await)
    }
}

impl storage::Host for RoomView<'_> {
    async fn get(&mut self, key: Vec<u8>) -> Answer<Option<Vec<u8>>> {
        Ok(self.event()?.get(&key).await.map(|value| value.map(|value| value.to_vec())))
    }

    async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Answer<()> {
        Ok(self.event()?.write(key, Some(value.into())).await)
    }

    async fn delete(&mut self, key: Vec<u8>) -> Answer<()> {
        Ok(self.event()?.write(key, None).await)
    }

    async fn scan(&mut self, within: KeyRange, limit: u32, reverse: bool) -> Answer<Vec<Pair>> {
        let event = self.event()?;
        let found = event.scan(&within.start, within.end.as_deref(), limit, reverse).await;
        Ok(found.map(|pairs| {
            pairs.into_iter().map(|(key, value)| Pair { key, value: value.to_vec() }).collect()
        }))
    }

    async fn delete_range(&mut self, within: KeyRange) -> Answer<u32> {
        Ok(self.event()?.delete_range(&within.start, within.end.as_deref()).await)
    }

    fn usage(&mut self) -> Result<Footprint> {
        let event = self.event()?;
        Ok(Footprint {
            bytes: event.meta.bytes,
            keys: event.meta.keys,
            max_bytes: event.limits.storage,
            max_keys: event.limits.keys,
        })
    }
}

impl alarms::Host for RoomView<'_> {
    fn get(&mut self) -> Result<Option<u64>> {
        Ok(self.event()?.meta.alarm.map(|alarm| alarm.scheduled_at))
    }

    fn set(&mut self, at: u64) -> Result<()> {
        self.event()?.set_alarm(Some(at));
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.event()?.set_alarm(None);
        Ok(())
    }
}

impl connections::Host for RoomView<'_> {
    fn send(&mut self, to: ConnId, message: Message, how: Delivery) -> Answer<()> {
        Ok(self.event()?.send(to, to_frame(message), how))
    }

    fn broadcast(&mut self, to: Audience, message: Message, how: Delivery) -> Answer<u32> {
        Ok(self.event()?.broadcast(to.tags, to.except, to_frame(message), how))
    }

    fn get(&mut self, id: ConnId) -> Result<Option<Connection>> {
        let event = self.event()?;
        Ok(event.room.connections.get(&id).map(|connection| seen(event, connection)))
    }

    fn count(&mut self, tag: Option<String>) -> Result<u32> {
        let connections = &self.event()?.room.connections;
        let count = match &tag {
            None => connections.len(),
            Some(tag) => connections.values().filter(|c| c.socket.tags().contains(tag)).count(),
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn list_page(
        &mut self,
        tag: Option<String>,
        after: Option<ConnId>,
        limit: u32,
    ) -> Result<Vec<Connection>> {
        let event = self.event()?;
        let from = after.map_or(0, |after| after.saturating_add(1));
        Ok(event
            .room
            .connections
            .range(from..)
            .map(|(_, connection)| connection)
            .filter(|c| tag.as_ref().is_none_or(|tag| c.socket.tags().contains(tag)))
            .take(limit.min(PAGE_PAIRS) as usize)
            .map(|connection| seen(event, connection))
            .collect())
    }

    fn set_attachment(&mut self, id: ConnId, attachment: Vec<u8>) -> Answer<()> {
        Ok(self.event()?.attach(id, attachment))
    }

    fn close(&mut self, id: ConnId, code: u16, reason: String) -> Answer<()> {
        Ok(self.event()?.close(id, code, reason))
    }

    fn set_auto_response(&mut self, pair: Option<(String, String)>) -> Answer<()> {
        Ok(self.event()?.set_auto_response(pair))
    }

    fn set_relay(&mut self, prefixes: Vec<Vec<u8>>) -> Answer<()> {
        Ok(self.event()?.set_relay(prefixes))
    }

    fn set_relay_rule(&mut self, id: ConnId, rule: Option<RelayRule>) -> Answer<()> {
        Ok(self.event()?.set_rule(id, rule.map(to_rule)))
    }

    fn last_relayed(&mut self, id: ConnId) -> Result<Option<Message>> {
        Ok(self.event()?.last_relayed(id).and_then(|frame| match frame {
            Frame::Text(text) => Some(Message::Text(text.as_str().to_owned())),
            Frame::Binary(bytes) => Some(Message::Binary(bytes.to_vec())),
            _ => None,
        }))
    }
}

fn to_rule(rule: RelayRule) -> Rule {
    let piece = |piece| match piece {
        RelayPiece::Literal(bytes) => Piece::Literal(bytes),
        RelayPiece::Number => Piece::Number,
    };
    Rule {
        relayed: rule.relayed.into_iter().map(piece).collect(),
        most: rule.most as usize,
        dropped: rule.dropped,
        tags: rule.tags,
    }
}

/// A connection, with what this event has attached.
fn seen(event: &Event, connection: &crate::rooms::state::Connection) -> Connection {
    let mut seen = connection.seen();
    if let Some(attachment) = event.attachment(seen.id) {
        seen.attachment = attachment.to_vec();
    }
    seen
}
