//! `/live/{room}/websocket`: what connections that speak JSON do.
//!
//! Owns the answers. A patch that does not fit is answered with what there is, so that the client can put its edit on
//! top of that; it is never applied by guessing, and never half. What one client says to another carries the
//! sender that the room knows, not the one that the message claims.

use crate::delta::{self, Rejected};
use crate::people::{self, Attached};
use crate::protocol::{self, Said, TOPICS};
use crate::state::{Done, Fail, JSON, Live, everyone};
use guesthouse_sdk::room::{ConnId, Connection, Delivery, Error, Message, Principal, connections};
use serde_json::{Map, Value, json};

fn send(id: ConnId, value: &Value) -> Done<()> {
    Ok(connections::send(id, &Message::Text(value.to_string()), Delivery::Reliable)?)
}

/// Somebody came: who they are, and what there is.
///
/// # Errors
/// The room is broken.
pub fn enter(
    live: &mut Live,
    id: ConnId,
    name: Option<String>,
    who: Option<&Principal>,
) -> Done<Attached> {
    if live.may_write(who) {
        live.create(who)?;
    }
    let name = name.filter(|name| !people::is_taken(name, id));
    let handshake = json!({
        "type": "handshake",
        "hash": live.session().hash(),
        "id": id.to_string(),
        "name": name,
        "mayWrite": live.may_write(who),
        "users": people::list(),
    });
    send(id, &handshake)?;
    people::tell("join", id, name.as_deref())?;
    Ok(Attached { name, ..Attached::default() })
}

/// Somebody went.
///
/// # Errors
/// The room is broken.
pub fn leave(connection: &Connection) -> Done<()> {
    people::tell("leave", connection.id, Attached::of(connection).name.as_deref())
}

/// Somebody says something.
///
/// # Errors
/// The room is broken.
pub fn hear(live: &mut Live, from: &Connection, text: &str) -> Done<()> {
    let id = from.id;
    let said = match protocol::read(text) {
        Ok(said) => said,
        Err(details) => {
            let mut error = protocol::error("Invalid JSON message");
            if let Some(fields) = error.as_object_mut() {
                fields.insert("details".to_owned(), details.into());
            }
            return send(id, &error);
        }
    };
    match said {
        Said::Ping => send(id, &json!({ "type": "pong" })),
        Said::Pong => Ok(()),
        Said::Subscribe(topics) => {
            let mut attached = Attached::of(from);
            for topic in &topics {
                if !attached.topics.contains(topic) {
                    attached.topics.push(topic.clone());
                }
            }
            if attached.topics.len() > TOPICS {
                return send(id, &protocol::error("A connection may have 32 topics"));
            }
            attached.attach(id)?;
            send(id, &json!({ "type": "ack", "action": "subscribe", "topics": topics }))
        }
        Said::Unsubscribe(topics) => {
            let mut attached = Attached::of(from);
            attached.topics.retain(|topic| !topics.contains(topic));
            attached.attach(id)?;
            send(id, &json!({ "type": "ack", "action": "unsubscribe", "topics": topics }))
        }
        Said::Publish(topic, data) => publish(from, &topic, &data),
        Said::Patch { old_hash, new_hash, delta, name } => {
            if let Some(name) = name
                && Attached::of(from).name.as_ref() != Some(&name)
            {
                rename(from, name)?;
            }
            patch(live, from, &old_hash, &new_hash, &delta)
        }
        Said::Relay(target, payload) => relay(from, &target, payload),
        Said::Name(name) => rename(from, name),
        Said::Other(kind) => {
            send(id, &json!({ "type": "ack", "message": "Message received", "receivedType": kind }))
        }
    }
}

fn publish(from: &Connection, topic: &str, data: &Value) -> Done<()> {
    let topics =
        |connection: &Connection| Attached::of(connection).topics.iter().any(|t| t == topic);
    let others = people::all(JSON);
    let mut to = everyone(JSON, Some(from.id));
    // One copy for all: so it is said who is left out.
    to.except.extend(others.iter().filter(|one| !topics(one)).map(|one| one.id));
    let message = json!({
        "type": "message", "topic": topic, "data": data,
        "from": from.id.to_string(), "name": Attached::of(from).name,
    });
    connections::broadcast(&to, &Message::Text(message.to_string()), Delivery::Reliable)?;
    send(from.id, &json!({ "type": "ack", "action": "publish", "topic": topic }))
}

fn rename(from: &Connection, name: String) -> Done<()> {
    if people::is_taken(&name, from.id) {
        let mut error = protocol::error("The name is taken");
        if let Some(fields) = error.as_object_mut() {
            fields.insert("name".to_owned(), name.into());
        }
        return send(from.id, &error);
    }
    // What this event has attached already must stay.
    let attached =
        connections::get(from.id).map_or_else(|| Attached::of(from), |c| Attached::of(&c));
    let told = attached.name.as_deref() != Some(&name);
    Attached { name: Some(name.clone()), ..attached }.attach(from.id)?;
    if told {
        people::tell("name", from.id, Some(&name))?;
    }
    send(from.id, &json!({ "type": "ack", "action": "nameUpdate", "name": name }))
}

fn patch(live: &mut Live, from: &Connection, old: &str, new: &str, delta: &Value) -> Done<()> {
    let refused = |live: &mut Live, message: &str| {
        let session = live.session();
        send(
            from.id,
            &json!({
                "type": "error", "message": message, "hashCode": session.hash(), "session": session,
            }),
        )
    };
    if !live.may_write(from.principal.as_ref()) {
        return refused(live, "You may read this room but not change it");
    }
    let session = match delta::apply(live.session(), old, new, delta) {
        Ok(session) => session,
        Err(Rejected::Outdated) => return refused(live, "Session hash mismatch"),
        Err(Rejected::OtherResult) => {
            return refused(
                live,
                "Failed to apply patch: it makes something else than `hashCode` says",
            );
        }
        Err(Rejected::Malformed(why)) => {
            return refused(live, &format!("Failed to apply patch: {why}"));
        }
    };
    live.create(from.principal.as_ref())?;
    match live.set(&session, Some(from.id)) {
        Ok(()) => send(from.id, &json!({ "type": "ack", "hashCode": new })),
        Err(Fail::Refused(refusal)) => refused(live, &refusal.message),
        Err(broken) => Err(broken),
    }
}

/// Hands a message on to one other, by name or by id.
fn relay(from: &Connection, target: &Value, mut payload: Map<String, Value>) -> Done<()> {
    let target = target.as_str().unwrap_or_default();
    let by_id = target.parse().ok().and_then(connections::get);
    let to = by_id.filter(|to| to.tags.iter().any(|tag| tag == JSON)).or_else(|| {
        people::all(JSON).into_iter().find(|one| Attached::of(one).name.as_deref() == Some(target))
    });
    let Some(to) = to else {
        let mut error = protocol::error("Nobody here has this name");
        if let Some(fields) = error.as_object_mut() {
            fields.insert("target".to_owned(), target.into());
        }
        return send(from.id, &error);
    };
    payload.insert("name".to_owned(), Attached::of(from).name.into());
    payload.insert("from".to_owned(), from.id.to_string().into());
    match connections::send(
        to.id,
        &Message::Text(Value::Object(payload).to_string()),
        Delivery::Reliable,
    ) {
        // It has gone a moment ago.
        Err(Error::NotFound) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
