//! `/live/{room}/yjs`: what connections that speak Yjs do.
//!
//! Owns the exchange of updates and of presence. Two traps shaped it. A y-websocket client that hears nothing for 30
//! seconds reconnects, so its own presence is sent back to it. And each such client repeats the presence of all
//! others, so only what is about itself is heard: else nobody's cursor would be safe from the others, and a room with
//! two people in it would never be quiet. Once the room knows a connection's client id, the host does both by itself,
//! and the room may sleep.

use crate::people::{self, Attached};
use crate::state::{Done, Fail, Live, YJS, everyone};
use crate::wire::{self, Message, Presence};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guesthouse_sdk::room::Message as Frame;
use guesthouse_sdk::room::{
    ConnId, Connection, Delivery, Principal, RelayPiece, RelayRule, connections,
};

/// Bytes of one presence.
const PRESENCE: usize = 8 << 10;

fn send(id: ConnId, bytes: Vec<u8>) -> Done<()> {
    Ok(connections::send(id, &Frame::Binary(bytes), Delivery::Reliable)?)
}

/// Somebody came: what the room has, and who is here.
///
/// # Errors
/// The room is broken.
pub fn enter(live: &mut Live, id: ConnId, who: Option<&Principal>) -> Done<Attached> {
    // Whoever may only read makes no room: until somebody does, its document is empty.
    if live.may_write(who) {
        live.create(who)?;
    }
    send(id, wire::step1(&live.document().state_vector()))?;
    everyone_here(id)?;
    Ok(Attached::default())
}

/// Tells one of all others.
fn everyone_here(to: ConnId) -> Done<()> {
    for connection in people::all(YJS) {
        if connection.id != to
            && let Some(bytes) = people::presence(connection.id, &Attached::of(&connection))
            && let Some(Message::Awareness(states)) = wire::read(&bytes)
            && states.iter().all(|one| one.state != "null")
        {
            connections::send(to, &Frame::Binary(bytes), Delivery::Droppable)?;
        }
    }
    Ok(())
}

/// Somebody went: their cursor goes, too.
///
/// # Errors
/// The room is broken.
pub fn leave(connection: &Connection) -> Done<()> {
    let attached = Attached::of(connection);
    let Some(client) = attached.client else { return Ok(()) };
    let bytes = people::presence(connection.id, &attached).unwrap_or_default();
    let Some(Message::Awareness(states)) = wire::read(&bytes) else { return Ok(()) };
    let clock = states.iter().filter(|one| one.client == client).map(|one| one.clock).max();
    let gone = [Presence { client, clock: clock.unwrap_or_default(), state: "null" }];
    let message = Frame::Binary(wire::awareness(&gone));
    connections::broadcast(&everyone(YJS, Some(connection.id)), &message, Delivery::Reliable)?;
    Ok(())
}

/// Somebody says something.
///
/// # Errors
/// The room is broken.
pub fn hear(live: &mut Live, from: &Connection, bytes: &[u8]) -> Done<()> {
    let Some(message) = wire::read(bytes) else {
        return Ok(connections::close(from.id, 4400, "that is no message of Yjs")?);
    };
    match message {
        Message::Step1(state_vector) => match live.document().missing(state_vector) {
            Some(update) => send(from.id, wire::step2(&update)),
            None => Ok(connections::close(from.id, 4400, "that is no state vector")?),
        },
        Message::Step2(update) | Message::Update(update) => {
            // Clients send what they have without being asked whether they may: that is no reason to close.
            if !live.may_write(from.principal.as_ref()) {
                return Ok(());
            }
            live.create(from.principal.as_ref())?;
            match live.merge(update, from.id) {
                // Codes from 4400 on tell y-websocket not to come back with the same update at once.
                Err(Fail::Refused(refusal)) => {
                    let code = 4000 + refusal.status;
                    Ok(connections::close(from.id, code, &refusal.message)?)
                }
                done => done,
            }
        }
        Message::Awareness(states) => present(from, bytes, &states),
        Message::QueryAwareness => everyone_here(from.id),
    }
}

/// From now on the host relays what this client says of itself, and drops what it says of others.
fn relayed(client: u64) -> RelayRule {
    let mut own = vec![1];
    wire::put_number(&mut own, client);
    RelayRule {
        // Awareness, the bytes of it, one state, this client's.
        relayed: vec![RelayPiece::Literal(vec![1]), RelayPiece::Number, RelayPiece::Literal(own)],
        most: u32::try_from(PRESENCE).unwrap_or(u32::MAX),
        dropped: vec![1],
        tags: vec![YJS.to_owned()],
    }
}

fn present(from: &Connection, bytes: &[u8], states: &[Presence<'_>]) -> Done<()> {
    let attached = Attached::of(from);
    let client = match (attached.client, states) {
        (Some(client), _) => client,
        // The first that a client says of itself.
        (None, [one]) => {
            let taken = people::all(YJS)
                .iter()
                .any(|other| other.id != from.id && Attached::of(other).client == Some(one.client));
            if taken {
                // Its connection before this one may not be known to be gone yet. It is kept alive, and heard later.
                return Ok(connections::send(
                    from.id,
                    &Frame::Binary(bytes.to_vec()),
                    Delivery::Droppable,
                )?);
            }
            one.client
        }
        (None, _) => return Ok(()),
    };
    let own: Vec<Presence<'_>> = states
        .iter()
        .filter(|one| one.client == client && one.state.len() <= PRESENCE)
        .cloned()
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    let message = wire::awareness(&own);
    let presence = STANDARD.encode(&message);
    Attached { client: Some(client), presence, ..attached }.attach(from.id)?;
    connections::set_relay_rule(from.id, Some(&relayed(client)))?;
    connections::broadcast(&everyone(YJS, None), &Frame::Binary(message), Delivery::Droppable)?;
    Ok(())
}
