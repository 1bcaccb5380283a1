//! The JSON protocol of `/live/{room}/websocket`.
//!
//! Owns what a client may say and in which order a message is looked at. The vocabulary is the original's.

use serde_json::{Map, Value, json};

/// Bytes of a name, a topic or a target.
const NAME: usize = 64;
/// Topics of one message.
pub const TOPICS: usize = 32;

/// What a client says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// It wants a pong.
    Ping,
    /// It answers a ping.
    Pong,
    /// It wants to hear of these topics.
    Subscribe(Vec<String>),
    /// It wants to hear of them no more.
    Unsubscribe(Vec<String>),
    /// It tells all who listen to a topic.
    Publish(String, Value),
    /// It has changed the session.
    Patch {
        /// Hash of the session that it changed.
        old_hash: String,
        /// Hash of what came of it.
        new_hash: String,
        /// How.
        delta: Value,
        /// Its name, if it says one.
        name: Option<String>,
    },
    /// It has something for one other: to set up WebRTC, mostly.
    Relay(Value, Map<String, Value>),
    /// This is its name.
    Name(String),
    /// Anything else, with its type.
    Other(String),
}

/// Reads a message.
///
/// # Errors
/// A sentence for the client.
pub fn read(text: &str) -> Result<Said, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = value else {
        return Err("a message must be a JSON object".to_owned());
    };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    match kind.as_str() {
        "ping" => return Ok(Said::Ping),
        "pong" => return Ok(Said::Pong),
        "subscribe" => return Ok(Said::Subscribe(topics(&fields)?)),
        "unsubscribe" => return Ok(Said::Unsubscribe(topics(&fields)?)),
        "publish" => {
            let topic = short(fields.get("topic"), "topic")?;
            return Ok(Said::Publish(topic, fields.remove("data").unwrap_or_default()));
        }
        _ => {}
    }
    if let Some(old_hash) = fields.remove("oldHash") {
        let (Value::String(old_hash), Some(Value::String(new_hash))) =
            (old_hash, fields.remove("hashCode"))
        else {
            return Err("a patch has the texts `oldHash` and `hashCode`".to_owned());
        };
        let name = fields.get("name").map(|name| short(Some(name), "name")).transpose()?;
        let delta = fields.remove("delta").unwrap_or_default();
        return Ok(Said::Patch { old_hash, new_hash, delta, name });
    }
    if let Some(target) = fields.get("target").cloned() {
        return Ok(Said::Relay(target, fields));
    }
    if let Some(name) = fields.get("name") {
        return Ok(Said::Name(short(Some(name), "name")?));
    }
    Ok(Said::Other(kind))
}

fn short(value: Option<&Value>, what: &str) -> Result<String, String> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() || text.len() > NAME || text.chars().any(char::is_control) {
        return Err(format!("`{what}` must be a text of 1 to {NAME} bytes"));
    }
    Ok(text.to_owned())
}

fn topics(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    let all = fields.get("topics").and_then(Value::as_array).ok_or("`topics` must be an array")?;
    if all.len() > TOPICS {
        return Err(format!("at most {TOPICS} topics"));
    }
    all.iter().map(|topic| short(Some(topic), "topics")).collect()
}

/// A name that a client may have, as it says it in a query.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    short(Some(&Value::from(text)), "name").ok()
}

/// An error, in a sentence; with what the client needs to go on.
#[must_use]
pub fn error(message: &str) -> Value {
    json!({ "type": "error", "message": message })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(value: &Value) -> Said {
        read(&value.to_string()).unwrap_or_else(Said::Other)
    }

    #[test]
    fn messages_are_looked_at_in_the_originals_order() {
        assert_eq!(said(&json!({ "type": "ping", "name": "a" })), Said::Ping);
        assert_eq!(
            said(&json!({ "type": "subscribe", "topics": ["a"], "oldHash": "x" })),
            Said::Subscribe(vec!["a".to_owned()])
        );
        let patch =
            json!({ "oldHash": "a", "hashCode": "b", "delta": {}, "target": "t", "name": "n" });
        assert!(matches!(said(&patch), Said::Patch { name: Some(name), .. } if name == "n"));
        let relay = json!({ "target": "bob", "type": "video-offer", "offer": 1, "name": "ann" });
        assert!(
            matches!(said(&relay), Said::Relay(to, fields) if to == "bob" && fields["offer"] == 1)
        );
        assert_eq!(said(&json!({ "type": "handShake", "name": "n" })), Said::Name("n".to_owned()));
        assert_eq!(said(&json!({ "type": "other" })), Said::Other("other".to_owned()));
        assert_eq!(said(&json!({})), Said::Other("unknown".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            r#"{"type":"subscribe"}"#,
            r#"{"type":"publish","topic":""}"#,
            r#"{"oldHash":1,"hashCode":"b"}"#,
            r#"{"oldHash":"a"}"#,
            r#"{"name":7}"#,
            "{\"name\":\"a\\nb\"}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let many = json!({ "type": "subscribe", "topics": vec!["a"; TOPICS + 1] });
        assert!(read(&many.to_string()).is_err());
        assert!(name(&"x".repeat(64)).is_some() && name(&"x".repeat(65)).is_none());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,60}", kind in "[a-z]{0,8}") {
            _ = read(&text);
            _ = read(&json!({ "type": kind, text: 1 }).to_string());
        }
    }
}
