//! What a client asks of the chat: a conversation so far, in the forms that chat libraries send.
//!
//! Owns its checks, in the original's order and words, and what becomes of each part. What a client lists as tools is
//! not looked at: the room offers its own.

use super::error;
use guesthouse_sdk::Response;
use serde_json::{Value, json};

/// Messages of a conversation.
const MESSAGES: usize = 100;
/// Characters of one message, written as JSON, as JavaScript counts them.
const MESSAGE: usize = 100_000;
/// What stands for a part that no model could read.
const UNSUPPORTED: &str = "[unsupported content]";

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
    System,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// `data:` or `https:`.
    Image(String),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) parts: Vec<Part>,
}

/// Reads a request: all of it, and its messages.
pub(super) fn read(body: &[u8]) -> Result<(Value, Vec<Message>), Response> {
    let asked: Value = serde_json::from_slice(body).map_err(|why| {
        let details = format!("Invalid JSON in request body: {why}");
        let answer = json!({ "error": "Failed to process message", "details": details });
        // The original's status.
        Response::json(500, answer.to_string())
    })?;
    let messages = messages(&asked).map_err(|why| error(400, &why))?;
    Ok((asked, messages))
}

fn messages(asked: &Value) -> Result<Vec<Message>, String> {
    let Some(all) = asked.get("messages").and_then(Value::as_array) else {
        return Err("Messages must be an array".to_owned());
    };
    if all.is_empty() {
        return Err("Messages array cannot be empty".to_owned());
    }
    if all.len() > MESSAGES {
        return Err(format!("Too many messages. Maximum allowed: {MESSAGES}"));
    }
    let numbered = all.iter().enumerate();
    numbered
        .map(|(index, one)| message(one).map_err(|why| format!("Message at index {index}{why}")))
        .collect()
}

/// What is wrong with a message goes on where its number stands.
fn message(one: &Value) -> Result<Message, String> {
    if !one.is_object() {
        return Err(" must be an object".to_owned());
    }
    let role = match one.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(" must have a valid role (user, assistant, system)".to_owned()),
    };
    let there = |name: &str| {
        one.get(name).filter(|value| !value.is_null() && **value != Value::String(String::new()))
    };
    let (content, is_content) = match (there("content"), there("parts")) {
        (Some(content), _) => (content, true),
        (None, Some(parts)) => (parts, false),
        (None, None) => return Err(" must have either 'content' or 'parts'".to_owned()),
    };
    if one.to_string().encode_utf16().count() > MESSAGE {
        return Err(" exceeds maximum size limit".to_owned());
    }
    let parts = match content {
        Value::String(text) if is_content => vec![Part::Text(text.clone())],
        Value::Array(parts) => {
            for (index, part) in parts.iter().enumerate() {
                if part.get("type").and_then(Value::as_str).is_none() {
                    let what = if is_content { "content part" } else { "part" };
                    return Err(format!(", {what} {index} must have a type"));
                }
            }
            parts.iter().filter_map(part).collect()
        }
        _ if is_content => return Err(" content must be a string or array".to_owned()),
        _ => return Err(" parts must be an array".to_owned()),
    };
    Ok(Message { role, parts })
}

/// None: it says nothing.
fn part(part: &Value) -> Option<Part> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let image = match part.get("type").and_then(Value::as_str)? {
        "text" => return text(part.get("text")).filter(|text| !text.is_empty()).map(Part::Text),
        // Where libraries mark that a step of an answer begins.
        "step-start" => return None,
        "image_url" => text(part.pointer("/image_url/url")).or_else(|| text(part.get("image_url"))),
        "image" => text(part.get("image")).or_else(|| text(part.get("url"))),
        "file" => text(part.get("mediaType"))
            .filter(|kind| kind.starts_with("image/"))
            .and_then(|_| text(part.get("url"))),
        _ => None,
    };
    let image = image.filter(|url| url.starts_with("https://") || is_inline(url));
    Some(image.map_or_else(|| Part::Text(UNSUPPORTED.to_owned()), Part::Image))
}

fn is_inline(url: &str) -> bool {
    inline(url).is_some()
}

/// Type and base64 of a `data:` URL of an image.
pub(super) fn inline(url: &str) -> Option<(&str, &str)> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    kind.starts_with("image/").then_some((kind, data))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn no(asked: &Value) -> String {
        messages(asked).unwrap_err()
    }

    fn one(message: Value) -> Value {
        json!({ "messages": [message] })
    }

    #[test]
    fn what_is_wrong_is_said_in_the_originals_words() {
        for asked in [json!({}), json!({ "messages": "x" }), json!([]), json!(null)] {
            assert_eq!(no(&asked), "Messages must be an array");
        }
        assert_eq!(no(&json!({ "messages": [] })), "Messages array cannot be empty");
        let user = json!({ "role": "user", "content": "x" });
        assert_eq!(
            no(&json!({ "messages": vec![user.clone(); 101] })),
            "Too many messages. Maximum allowed: 100"
        );
        assert_eq!(messages(&json!({ "messages": vec![user.clone(); 100] })).unwrap().len(), 100);
        for (message, wanted) in [
            (json!("x"), "must be an object"),
            (
                json!({ "role": "tool", "content": "x" }),
                "must have a valid role (user, assistant, system)",
            ),
            (json!({ "content": "x" }), "must have a valid role (user, assistant, system)"),
            (json!({ "role": "user" }), "must have either 'content' or 'parts'"),
            (json!({ "role": "user", "content": "" }), "must have either 'content' or 'parts'"),
            (json!({ "role": "user", "content": 7 }), "content must be a string or array"),
            (json!({ "role": "user", "parts": "x" }), "parts must be an array"),
        ] {
            assert_eq!(no(&one(message)), format!("Message at index 0 {wanted}"));
        }
        let parts = json!([{ "type": "text", "text": "x" }, { "text": "x" }]);
        let asked = json!({ "messages": [user, { "role": "user", "content": parts }] });
        assert_eq!(no(&asked), "Message at index 1, content part 1 must have a type");
        let asked = one(json!({ "role": "user", "parts": [{}] }));
        assert_eq!(no(&asked), "Message at index 0, part 0 must have a type");
    }

    #[test]
    fn a_message_may_have_so_many_characters_and_no_more() {
        let empty = json!({ "role": "user", "content": "" }).to_string().len();
        let of = |text: String| one(json!({ "role": "user", "content": text }));
        assert!(messages(&of("x".repeat(MESSAGE - empty))).is_ok());
        assert_eq!(
            no(&of("x".repeat(MESSAGE - empty + 1))),
            "Message at index 0 exceeds maximum size limit"
        );
    }

    #[test]
    fn parts_are_texts_and_images_and_the_rest_is_said_to_be_left_out() {
        let inline = "data:image/png;base64,iVBORw0KGgo=";
        let read = messages(&one(json!({ "role": "assistant", "parts": [
            { "type": "step-start" },
            { "type": "text", "text": "a" },
            { "type": "text", "text": "" },
            { "type": "image_url", "image_url": { "url": "https://a.example/x.png" } },
            { "type": "image", "image": inline },
            { "type": "file", "mediaType": "image/png", "url": inline },
            { "type": "file", "mediaType": "audio/mp3", "url": "https://a.example/x.mp3" },
            { "type": "image", "image": "file:///etc/passwd" },
            { "type": "tool-read_code" },
        ] })));
        let text = |text: &str| Part::Text(text.to_owned());
        let image = |url: &str| Part::Image(url.to_owned());
        assert_eq!(
            read.unwrap(),
            [Message {
                role: Role::Assistant,
                parts: vec![
                    text("a"),
                    image("https://a.example/x.png"),
                    image(inline),
                    image(inline),
                    text(UNSUPPORTED),
                    text(UNSUPPORTED),
                    text(UNSUPPORTED),
                ],
            }]
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\]{}\",:a-z0-9]{0,80}") {
            _ = read(text.as_bytes());
        }
    }
}
