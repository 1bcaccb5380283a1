//! The name of a picture: what its URL asks for, and nothing else.
//!
//! Owns the parameters, their bounds, and the key under which a picture is kept: the whole SHA-256 of what was
//! asked. The dangers that shaped it: a short hash under which two questions got the same picture for a year, and
//! a typing error that got a default picture, also for a year.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a prompt.
const LONGEST_PROMPT: usize = 4000;
const RATIOS: [&str; 11] =
    ["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"];

/// A picture that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    /// What the model is given.
    pub(crate) input: Map<String, Value>,
    /// `image/webp` and so on.
    pub(crate) kind: &'static str,
}

impl Picture {
    /// Reads `{base64url}.{extension}`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let (code, extension) =
            name.rsplit_once('.').ok_or("The path must end with .webp, .png or .jpeg.")?;
        // The model calls the one format by its short name.
        let (format, kind) = match extension {
            "webp" => ("webp", "image/webp"),
            "png" => ("png", "image/png"),
            "jpeg" => ("jpg", "image/jpeg"),
            _ => return Err("The path must end with .webp, .png or .jpeg.".to_owned()),
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(code)
            .or_else(|_| URL_SAFE.decode(code))
            .map_err(|_| "The name is not base64url of a query string.")?;
        let query = String::from_utf8(bytes).map_err(|_| "The name is not base64url of a text.")?;
        let mut input = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(&value.replace('+', " "))
                .decode_utf8()
                .map_err(|_| format!("`{}` is not text.", key.escape_default()))?
                .into_owned();
            let value = parameter(key, &value, extension)?;
            if input.insert(key.to_owned(), value).is_some() {
                return Err(format!("`{key}` is there twice."));
            }
        }
        if !input.contains_key("prompt") {
            return Err("There is no `prompt`.".to_owned());
        }
        let default = |input: &mut Map<String, Value>, key: &str, value: Value| {
            input.entry(key).or_insert(value);
        };
        default(&mut input, "aspect_ratio", json!("16:9"));
        default(&mut input, "output_quality", json!(90));
        input.insert("output_format".to_owned(), json!(format));
        // One order, whatever the order of the question: equal questions have equal keys.
        let mut sorted: Vec<(String, Value)> = input.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { input: sorted.into_iter().collect(), kind })
    }

    /// The key under which it is kept.
    pub(crate) fn key(&self, model: &str) -> String {
        let text = json!({ "model": model, "input": self.input }).to_string();
        format!("picture/{}", hex::encode(Sha256::digest(text)))
    }
}

fn parameter(key: &str, value: &str, extension: &str) -> Result<Value, String> {
    let number = |low: f64, high: f64| {
        value
            .parse::<f64>()
            .ok()
            .filter(|number| (low..=high).contains(number))
            .map(|number| json!(number))
            .ok_or_else(|| format!("`{key}` must be a number from {low} to {high}."))
    };
    let whole = |low: u64, high: u64| {
        value
            .parse::<u64>()
            .ok()
            .filter(|number| (low..=high).contains(number))
            .map(|number| json!(number))
            .ok_or_else(|| format!("`{key}` must be a whole number from {low} to {high}."))
    };
    match key {
        "prompt" | "negative_prompt" => {
            if value.len() > LONGEST_PROMPT || (key == "prompt" && value.trim().is_empty()) {
                return Err(format!("`{key}` must have 1 to {LONGEST_PROMPT} bytes."));
            }
            Ok(json!(value))
        }
        "cfg" => number(0.0, 20.0),
        "steps" => whole(1, 50),
        "output_quality" => whole(0, 100),
        "prompt_strength" => number(0.0, 1.0),
        "aspect_ratio" if RATIOS.contains(&value) => Ok(json!(value)),
        "aspect_ratio" => Err(format!("`aspect_ratio` must be one of {}.", RATIOS.join(", "))),
        "output_format" if value == extension => Ok(json!(value)),
        "output_format" => Err("`output_format` must be what the path ends with.".to_owned()),
        other => Err(format!("There is no parameter `{}`.", other.escape_default())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(query: &str, extension: &str) -> String {
        format!("{}.{extension}", URL_SAFE_NO_PAD.encode(query))
    }

    #[test]
    fn equal_questions_have_one_key_and_others_another() {
        let key = |query: &str, extension: &str| {
            Picture::parse(&name(query, extension)).unwrap().key("a/b")
        };
        let one = key("prompt=a+cat&steps=4", "webp");
        assert_eq!(one, key("steps=4&prompt=a%20cat", "webp"));
        assert_eq!(one, key("steps=4&prompt=a%20cat&output_format=webp&output_quality=90", "webp"));
        assert_ne!(one, key("prompt=a+cat&steps=5", "webp"));
        assert_ne!(one, key("prompt=a+cat&steps=4", "png"));
        assert_ne!(one, Picture::parse(&name("prompt=a+cat&steps=4", "webp")).unwrap().key("a/c"));
        assert_eq!(one.len(), "picture/".len() + 64);
    }

    #[test]
    fn jpeg_is_jpg_for_the_model() {
        let picture = Picture::parse(&name("prompt=x", "jpeg")).unwrap();
        assert_eq!(picture.input.get("output_format"), Some(&json!("jpg")));
        assert_eq!(picture.kind, "image/jpeg");
    }

    #[test]
    fn what_is_wrong_is_said_and_no_picture_stands_in() {
        for (query, extension, expected) in [
            ("steps=4", "webp", "no `prompt`"),
            ("prompt=", "webp", "1 to"),
            ("prompt=x&steps=0", "webp", "from 1 to 50"),
            ("prompt=x&steps=4.5", "webp", "whole number"),
            ("prompt=x&cfg=NaN", "webp", "from 0 to 20"),
            ("prompt=x&output_quality=101", "webp", "from 0 to 100"),
            ("prompt=x&aspect_ratio=7:5", "webp", "one of"),
            ("prompt=x&output_format=png", "webp", "what the path ends with"),
            ("prompt=x&prompt=y", "webp", "twice"),
            ("prompt=x&seed=1", "webp", "no parameter"),
            ("prompt=x", "gif", "must end with"),
        ] {
            let error = Picture::parse(&name(query, extension)).unwrap_err();
            assert!(error.contains(expected), "{query}: {error}");
        }
        assert!(Picture::parse("!!!.webp").is_err());
        assert!(Picture::parse("cHJvbXB0PXg").is_err());
    }
}
