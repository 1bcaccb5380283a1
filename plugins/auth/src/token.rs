//! A token's three parts, read strictly.
//!
//! Owns the form (RFC 7515 §7.1, RFC 7519). Whatever can be read in two ways is refused: a name that stands
//! twice in an object, base64 with padding, blanks or bits that say nothing, anything before or after. The
//! danger that shaped it: one reader checks the first of two `sub`s, the next one uses the second.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Characters of a token that is looked at.
pub const MAX_TOKEN: usize = 16 << 10;
/// How deep claims may be nested.
const MAX_DEPTH: u32 = 32;

/// Why a token can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than [`MAX_TOKEN`].
    TooLong,
    /// A name stands twice in an object.
    Duplicate,
    /// Anything else.
    Form,
}

/// A token that was read and is not yet believed.
#[derive(Debug)]
pub struct Token<'a> {
    /// The first part.
    pub header: Map<String, Value>,
    /// The second part.
    pub claims: Map<String, Value>,
    /// The second part as it was signed.
    pub claims_text: String,
    /// What was signed.
    pub message: &'a str,
    /// The third part, still encoded.
    pub signature: &'a str,
}

impl<'a> Token<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// It has not the form.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if text.len() > MAX_TOKEN {
            return Err(Malformed::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Malformed::Form)?;
        let (header, claims) = message.split_once('.').ok_or(Malformed::Form)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(Malformed::Form);
        }
        // Checked here so that no other decoder is asked to make sense of it.
        decode(signature)?;
        let (header, _) = object(header)?;
        let (claims, claims_text) = object(claims)?;
        Ok(Self { header, claims, claims_text, message, signature })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed::Form)
}

fn object(part: &str) -> Result<(Map<String, Value>, String), Malformed> {
    let text = String::from_utf8(decode(part)?).map_err(|_| Malformed::Form)?;
    match serde_json::from_str::<Strict>(&text) {
        Ok(Strict(Value::Object(object))) => Ok((object, text)),
        Ok(_) => Err(Malformed::Form),
        Err(error) if error.to_string().starts_with(TWICE) => Err(Malformed::Duplicate),
        Err(_) => Err(Malformed::Form),
    }
}

const TWICE: &str = "a name stands twice";

/// JSON in which no object has a name twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(object))
    }
}

/// Whether a value is nested no deeper than plugins should be made to follow.
#[must_use]
pub fn is_shallow(value: &Value) -> bool {
    fn depth(value: &Value, left: u32) -> bool {
        left > 0
            && match value {
                Value::Array(list) => list.iter().all(|item| depth(item, left - 1)),
                Value::Object(object) => object.values().all(|item| depth(item, left - 1)),
                _ => true,
            }
    }
    depth(value, MAX_DEPTH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    #[test]
    fn a_token_has_three_parts_of_which_two_are_objects() {
        let good = token(r#"{"alg":"RS256"}"#, r#"{"sub":"a"}"#);
        let parsed = Token::parse(&good).unwrap();
        assert_eq!(parsed.claims_text, r#"{"sub":"a"}"#);
        assert_eq!(format!("{}.{}", parsed.message, parsed.signature), good);
        for bad in [
            "",
            "a",
            "..",
            "a.b",
            &good.rsplit_once('.').unwrap().0.to_owned(),
            &format!("{good}.x"),
            &format!("{good}="),
            &format!(" {good}"),
            &format!("{good} "),
            &format!("{good}\n"),
            &good.replacen('.', "=.", 1),
            &good.replacen('.', "..", 1),
            &token("[]", "{}"),
            &token("{}", "null"),
            &token("{}", "{} {}"),
            &token("{}", ""),
            &token("{}", "{\"a\":1,}"),
            // The last character has bits that say nothing.
            &format!("{}.e31.c2ln", encode("{}")),
        ] {
            assert_eq!(Token::parse(bad).err(), Some(Malformed::Form), "{bad}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for claims in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","\u0073ub":"b"}"#,
            r#"{"o":{"x":1,"x":2}}"#,
            r#"{"l":[{"x":1,"x":1}]}"#,
        ] {
            assert_eq!(Token::parse(&token("{}", claims)).err(), Some(Malformed::Duplicate));
        }
        let header = r#"{"alg":"none","alg":"RS256"}"#;
        assert_eq!(Token::parse(&token(header, "{}")).err(), Some(Malformed::Duplicate));
    }

    #[test]
    fn a_token_of_a_megabyte_is_not_looked_at() {
        let long = "a".repeat(1 << 20);
        assert_eq!(Token::parse(&long).err(), Some(Malformed::TooLong));
    }

    #[test]
    fn what_is_nested_too_deep_is_noticed() {
        let nested = |depth: usize| {
            serde_json::from_str::<Value>(&("[".repeat(depth) + &"]".repeat(depth))).unwrap()
        };
        assert!(is_shallow(&nested(32)));
        assert!(!is_shallow(&nested(33)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", header in ".*", claims in ".*") {
            _ = Token::parse(&text);
            _ = Token::parse(&token(&header, &claims));
        }
    }
}
