//! What happens to a room, each with what it means.
//!
//! Owns the rules of connection attempts, messages, ends of connections, alarms and orders: which of them wake
//! the room, and what becomes of a client when the event that it caused fails.

use super::{Actor, Step};
use crate::auth::Caller;
use crate::engine::{Call, Returned};
use crate::rooms::event::{Event, Opened, RoomFailure};
use crate::rooms::gate::Effect;
use crate::rooms::mailbox::Order;
use crate::rooms::now;
use crate::rooms::relay::Fate;
use crate::rooms::socket::{Frame, Socket};
use crate::rooms::state::closed_row;
use crate::storage::rooms::Alarm;
use guesthouse_bindings::rooms::connections::Delivery;
use guesthouse_bindings::rooms::types::{
    AlarmInfo, CloseInfo, ConnId, Connection as Seen, Message, Request,
};
use std::sync::Arc;

/// How often an alarm is tried again before it is parked.
const ALARM_RETRIES: u32 = 6;

impl Actor {
    pub(super) async fn connect(
        &mut self,
        request: Request,
        socket: Arc<Socket>,
        offered: Vec<String>,
        reply: tokio::sync::oneshot::Sender<Opened>,
    ) -> Step {
        if self.closing {
            _ = reply.send(Opened::Failed(RoomFailure::Closing));
            return Ok(());
        }
        let open = self.room.as_ref().map_or(0, |room| room.connections.len());
        if open >= self.limits.sockets {
            self.gate_only(Effect::Open(reply, Opened::Failed(RoomFailure::Full(open))));
            return Ok(());
        }
        let all = self.room.as_ref().map_or(0, |room| room.usage.sockets());
        if all >= self.limits.plugin_sockets {
            let failure = RoomFailure::AllFull(all);
            tracing::warn!(room = %self.mailbox.key, "a client was refused: {failure}");
            self.gate_only(Effect::Open(reply, Opened::Failed(failure)));
            return Ok(());
        }
        let connecting = socket.clone();
        let call = Call::Connect(socket.id, request);
        let prepare = |event: &mut Event| {
            event.caller = connecting.caller.clone();
            event.connecting = Some(connecting);
        };
        let result = self.call(call, prepare).await?;
        let opened = match result {
            Ok((Returned::Accept(accept), mut event)) => {
                let subprotocol = accept.subprotocol.clone();
                let wrong = match &subprotocol {
                    Some(chosen) if !offered.contains(chosen) => Err(format!(
                        "the room chose the subprotocol {chosen:?}, which was not offered"
                    )),
                    _ => event.accept(&socket, accept),
                };
                match wrong {
                    Ok(()) => {
                        let opened = Opened::Accepted { socket, subprotocol };
                        let step = self.conclude(event, Some(Effect::Open(reply, opened))).await;
                        self.count_sockets();
                        return step;
                    }
                    Err(why) => {
                        tracing::error!(room = %self.mailbox.key, "on-connect: {why}");
                        self.room = Some(event.into_room());
                        Opened::Failed(RoomFailure::Refused(why))
                    }
                }
            }
            Ok((Returned::Response(response), event)) => {
                self.room = Some(event.into_room());
                Opened::Refused(response)
            }
            Ok((Returned::Done | Returned::Refused(_), event)) => {
                self.room = Some(event.into_room());
                Opened::Failed(RoomFailure::Refused("on-connect gave no answer".to_owned()))
            }
            Err(failure) => Opened::Failed(failure),
        };
        self.gate_only(Effect::Open(reply, opened));
        Ok(())
    }

    pub(super) async fn message(&mut self, from: &Arc<Socket>, frame: Frame) -> Step {
        let Some(room) = &mut self.room else { return Ok(()) };
        if !room.connections.contains_key(&from.id) {
            return Ok(());
        }
        if let (Some((request, response)), Frame::Text(text)) = (&room.auto_response, &frame)
            && text.as_str() == request
        {
            from.push(Frame::text(response.as_str()), Delivery::Reliable);
            return Ok(());
        }
        let bytes: &[u8] = match &frame {
            Frame::Text(text) => text.as_bytes(),
            Frame::Binary(bytes) => bytes,
            _ => return Ok(()),
        };
        let rule = room.connections.get(&from.id).and_then(|connection| connection.rule.as_ref());
        match rule.map(|rule| (rule.fate(bytes), rule)) {
            Some((Fate::Dropped, _)) => return Ok(()),
            Some((Fate::Relayed, rule)) => {
                let tags = rule.tags.clone();
                for socket in room.everyone().iter().filter(|socket| socket.has_any(&tags)) {
                    socket.push(frame.clone(), Delivery::Droppable);
                }
                if let Some(connection) = room.connections.get_mut(&from.id) {
                    connection.last_relayed = Some(frame);
                }
                return Ok(());
            }
            Some((Fate::Delivered, _)) | None => {}
        }
        if room.relay.iter().any(|prefix| bytes.starts_with(prefix)) {
            for socket in room.everyone().iter() {
                socket.push(frame.clone(), Delivery::Droppable);
            }
            if let Some(connection) = room.connections.get_mut(&from.id) {
                connection.last_relayed = Some(frame);
            }
            return Ok(());
        }
        let message = match frame {
            Frame::Text(text) => Message::Text(text.as_str().to_owned()),
            Frame::Binary(bytes) => Message::Binary(bytes.to_vec()),
            _ => return Ok(()),
        };
        let caller = from.caller.clone();
        let call = Call::Message(from.id, message);
        match self.call(call, |event| event.caller = caller).await? {
            Ok((_, event)) => self.conclude(event, None).await,
            Err(failure) => {
                let (code, reason) = match failure {
                    RoomFailure::NoInstance => (1013, "the house has too much to do"),
                    RoomFailure::Resting(_) => (1013, "the room is out of order"),
                    _ => (1011, "the room could not deal with a message"),
                };
                self.gate_only(Effect::Close(from.clone(), code, reason.to_owned()));
                Ok(())
            }
        }
    }

    /// Milliseconds before the next try of an alarm that failed so many times.
    fn pause(&self, failures: u32) -> u64 {
        let first = u64::try_from(self.limits.alarm_retry.as_millis()).unwrap_or(u64::MAX);
        first.saturating_mul(1 << failures.saturating_sub(1).min(ALARM_RETRIES))
    }

    /// `on-close`, whose effects are true exactly once: the row goes with them.
    pub(super) async fn closed(
        &mut self,
        connection: Seen,
        caller: Option<Arc<Caller>>,
        last_relayed: Option<Frame>,
        info: CloseInfo,
    ) -> Step {
        let row = closed_row(connection.id);
        let id: ConnId = connection.id;
        let call = Call::Close(connection, info);
        let prepare = |event: &mut Event| {
            event.caller = caller;
            event.closing = Some((id, last_relayed));
            event.write_row(closed_row(id));
        };
        let event = match self.call(call, prepare).await? {
            Ok((_, event)) => event,
            Err(_) => match self.host_event() {
                // The room had its chance; the row must go all the same.
                Some(mut event) => {
                    event.write_row(row);
                    event
                }
                None => return Ok(()),
            },
        };
        self.conclude(event, None).await?;
        if self.closing && self.is_empty() && self.inbox.is_empty() {
            return self.last_words().await;
        }
        Ok(())
    }

    pub(super) async fn alarm(&mut self, due: u64) -> Step {
        let Some(alarm) = self.room.as_ref().and_then(|room| room.meta.alarm) else {
            return Ok(());
        };
        if alarm.due != Some(due) {
            return Ok(());
        }
        let info = AlarmInfo { scheduled_at: alarm.scheduled_at, retry_count: alarm.retries };
        let prepare = |event: &mut Event| {
            event.ringing = Some(alarm);
            event.meta.alarm = None;
        };
        match self.call(Call::Alarm(info), prepare).await? {
            Ok((_, event)) => self.conclude(event, None).await,
            Err(_) => {
                let Some(mut event) = self.host_event() else { return Ok(()) };
                let retries = alarm.retries.saturating_add(1);
                let next =
                    (retries <= ALARM_RETRIES).then(|| now().saturating_add(self.pause(retries)));
                if next.is_none() {
                    tracing::error!(
                        room = %self.mailbox.key,
                        "the alarm failed {retries} times and is parked until the room sets it again"
                    );
                }
                event.meta.alarm = Some(Alarm { due: next, retries, ..alarm });
                self.conclude(event, None).await
            }
        }
    }

    pub(super) async fn order(&mut self, order: Order) -> Step {
        match order {
            Order::Close { code, reason, done } => {
                _ = done.send(self.close_all(code, &reason));
                Ok(())
            }
            Order::Delete { done } => {
                self.close_all(1001, "the room was deleted");
                self.rest();
                loop {
                    let Some(mut event) = self.host_event() else { return Ok(()) };
                    event.meta.alarm = None;
                    let deleted = event.delete_range(&[], None).await;
                    self.conclude(event, None).await?;
                    match deleted {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(_) => {
                            _ = done.send(Err(RoomFailure::Storage));
                            return Ok(());
                        }
                    }
                }
                self.settle_all().await?;
                _ = done.send(Ok(()));
                Ok(())
            }
        }
    }
}
