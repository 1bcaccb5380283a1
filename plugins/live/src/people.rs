//! Who is in the room.
//!
//! Owns what is attached to a connection, names, and topics. A name belongs to one connection at a time, so that what
//! is meant for it can't be caught by another.

use crate::state::{Done, JSON, Live, YJS, everyone};
use crate::wire;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guesthouse_sdk::room::{ConnId, Connection, Delivery, Message, connections};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is attached to a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it wants to hear of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Its client in Yjs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<u64>,
    /// The presence that it began with, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub presence: String,
}

impl Attached {
    /// What is attached.
    #[must_use]
    pub fn of(connection: &Connection) -> Self {
        serde_json::from_slice(&connection.attachment).unwrap_or_default()
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Attaches it.
    ///
    /// # Errors
    /// It is too much.
    pub fn attach(&self, id: ConnId) -> Done<()> {
        Ok(connections::set_attachment(id, &self.bytes())?)
    }
}

/// All connections with a tag.
#[must_use]
pub fn all(tag: &str) -> Vec<Connection> {
    let mut found: Vec<Connection> = Vec::new();
    loop {
        let after = found.last().map(|connection| connection.id);
        let page = connections::list_page(Some(tag), after, 1000);
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// The last presence of a Yjs connection, as the message that told of it.
#[must_use]
pub fn presence(id: ConnId, attached: &Attached) -> Option<Vec<u8>> {
    match connections::last_relayed(id) {
        Some(Message::Binary(bytes)) => Some(bytes),
        _ => STANDARD.decode(&attached.presence).ok().filter(|bytes| !bytes.is_empty()),
    }
}

/// Names of those who are here, through either door. Someone without a name is `anonymous`.
#[must_use]
pub fn names() -> Vec<String> {
    let unnamed = || "anonymous".to_owned();
    let mut names: Vec<String> = all(JSON)
        .iter()
        .map(|connection| Attached::of(connection).name.unwrap_or_else(unnamed))
        .collect();
    names.extend(all(YJS).iter().map(|connection| {
        let bytes = presence(connection.id, &Attached::of(connection)).unwrap_or_default();
        let Some(wire::Message::Awareness(states)) = wire::read(&bytes) else { return unnamed() };
        let state = states.first().and_then(|one| serde_json::from_str::<Value>(one.state).ok());
        let name = state.as_ref().and_then(|state| state.pointer("/user/name")?.as_str());
        name.map_or_else(unnamed, str::to_owned)
    }));
    names
}

/// Those who are here and speak JSON.
#[must_use]
pub fn list() -> Value {
    all(JSON)
        .iter()
        .map(|connection| json!({ "id": connection.id.to_string(), "name": Attached::of(connection).name }))
        .collect()
}

/// Whether another connection has this name.
#[must_use]
pub fn is_taken(name: &str, by_other_than: ConnId) -> bool {
    all(JSON).iter().any(|connection| {
        connection.id != by_other_than && Attached::of(connection).name.as_deref() == Some(name)
    })
}

/// Tells everyone who speaks JSON that somebody came, went, or has another name.
///
/// # Errors
/// It can't be sent.
pub fn tell(kind: &str, id: ConnId, name: Option<&str>) -> Done<()> {
    let message = json!({ "type": kind, "id": id.to_string(), "name": name }).to_string();
    let to = everyone(JSON, Some(id));
    connections::broadcast(&to, &Message::Text(message), Delivery::Reliable)?;
    Ok(())
}

/// Tells everyone who speaks JSON what they may do now.
///
/// # Errors
/// It can't be sent.
pub fn rights_have_changed(live: &Live) -> Done<()> {
    for connection in all(JSON) {
        let may_write = live.may_write(connection.principal.as_ref());
        let message = json!({ "type": "access", "mayWrite": may_write }).to_string();
        connections::send(connection.id, &Message::Text(message), Delivery::Reliable)?;
    }
    Ok(())
}
