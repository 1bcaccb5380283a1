//! Reading a table key by key, so that what nobody asked for is an error.

use super::diagnostics::{Problem, suggest};
use super::values;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where problems are collected.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, span: impl Into<Option<Range<usize>>>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { span: span.into(), message: message.into() });
    }

    pub(super) fn take(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value and where it stands.
pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// A table that is being read.
pub(super) struct Reader<'a> {
    table: &'a DeTable<'a>,
    /// As it is called in messages: `[server]`.
    name: String,
    problems: &'a Problems,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        table: &'a DeTable<'a>,
        name: impl Into<String>,
        problems: &'a Problems,
    ) -> Self {
        Self { table, name: name.into(), problems, asked: Vec::new() }
    }

    /// A key's value.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Notes a problem that only the caller can see.
    pub(super) fn problem(&self, span: Range<usize>, message: String) {
        self.problems.add(span, message);
    }

    fn wrong(&self, key: &str, value: Value<'_>, wanted: &str) {
        self.problems.add(
            value.span(),
            format!("`{key}` in {} must be {wanted}, not {}.", self.name, a_type(value.get_ref())),
        );
    }

    fn parsed<T>(&self, key: &str, value: Value<'_>, parsed: Result<T, String>) -> Option<T> {
        parsed
            .map_err(|why| {
                self.problems.add(value.span(), format!("`{key}` in {}: {why}.", self.name));
            })
            .ok()
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<(&'a str, Range<usize>)> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((text, value.span())),
            None => {
                self.wrong(key, value, "a text in quotes");
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, into: &mut T, words: &[(&str, T)]) {
        let Some((text, span)) = self.text(key) else { return };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *into = *value,
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.problems.add(
                    span,
                    format!("`{text}` is not a value of `{key}`. {}", suggest(text, &known)),
                );
            }
        }
    }

    pub(super) fn truth(&mut self, key: &'static str, into: &mut bool) {
        let Some(value) = self.get(key) else { return };
        match value.get_ref().as_bool() {
            Some(truth) => *into = truth,
            None => self.wrong(key, value, "true or false"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        bounds: std::ops::RangeInclusive<u64>,
    ) where
        T: TryFrom<u64>,
    {
        let Some(value) = self.get(key) else { return };
        let number = value.get_ref().as_integer().and_then(|integer| {
            u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
        });
        match number.filter(|number| bounds.contains(number)).and_then(|n| T::try_from(n).ok()) {
            Some(number) => *into = number,
            None => {
                let wanted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
                if value.get_ref().is_integer() {
                    self.problems
                        .add(value.span(), format!("`{key}` in {} must be {wanted}.", self.name));
                } else {
                    self.wrong(key, value, &wanted);
                }
            }
        }
    }

    /// A size in bytes within bounds: a number, or a text with a unit.
    pub(super) fn size<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        bounds: std::ops::RangeInclusive<u64>,
    ) where
        T: TryFrom<u64>,
    {
        let Some(value) = self.get(key) else { return };
        let Some(text) = value.get_ref().as_str() else {
            return self.number(key, into, bounds);
        };
        let Some(size) = self.parsed(key, value, values::size(text)) else { return };
        match T::try_from(size) {
            Ok(size_as) if bounds.contains(&size) => *into = size_as,
            _ => self.problems.add(
                value.span(),
                format!(
                    "`{key}` in {} must be from {} to {} bytes.",
                    self.name,
                    bounds.start(),
                    bounds.end()
                ),
            ),
        }
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        into: &mut Duration,
        bounds: std::ops::RangeInclusive<Duration>,
    ) {
        let Some(value) = self.get(key) else { return };
        let Some(text) = value.get_ref().as_str() else {
            return self.wrong(key, value, "a duration in quotes, as \"30s\"");
        };
        let Some(duration) = self.parsed(key, value, values::duration(text)) else { return };
        if bounds.contains(&duration) {
            *into = duration;
        } else {
            self.problems.add(
                value.span(),
                format!(
                    "`{key}` in {} must be from {:?} to {:?}.",
                    self.name,
                    bounds.start(),
                    bounds.end()
                ),
            );
        }
    }

    /// A share, as `5%`.
    pub(super) fn percent(&mut self, key: &'static str, into: &mut u8) {
        let Some(value) = self.get(key) else { return };
        let Some(text) = value.get_ref().as_str() else {
            return self.wrong(key, value, "a share in quotes, as \"5%\"");
        };
        if let Some(percent) = self.parsed(key, value, values::percent(text)) {
            *into = percent;
        }
    }

    pub(super) fn address(&mut self, key: &'static str, into: &mut SocketAddr) {
        let Some((text, span)) = self.text(key) else { return };
        match text.parse() {
            Ok(address) => *into = address,
            Err(_) => self.problems.add(
                span,
                format!(
                    "`{text}` is not an address to listen on: write IP and port, as \"127.0.0.1:8787\", \
                     \"0.0.0.0:80\" or \"[::1]:8787\"."
                ),
            ),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(&'a str, Range<usize>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of texts, as [\"one\", \"two\"]");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text, item.span())),
                None => self.wrong(key, item, "a list of texts"),
            }
        }
        texts
    }

    /// A table within.
    pub(super) fn table(&mut self, key: &'static str, name: &str) -> Option<Reader<'a>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Reader::new(table, name, self.problems)),
            None => {
                self.wrong(key, value, "a table");
                None
            }
        }
    }

    /// The table as data, but for these keys.
    pub(super) fn as_json(&self, without: &[&str]) -> serde_json::Map<String, serde_json::Value> {
        self.table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())))
            .filter(|(key, _)| !without.contains(&key.as_str()))
            .collect()
    }

    /// All keys and values, whatever they are called.
    pub(super) fn any(&self) -> impl Iterator<Item = (&'a str, Range<usize>, Value<'a>)> + use<'a> {
        let table = self.table;
        table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    /// What nobody asked for is a typing error, and a typing error can switch a protection off.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter() {
            let text: &str = key.get_ref().as_ref();
            if !self.asked.contains(&text) {
                self.problems.add(
                    key.span(),
                    format!(
                        "There is no `{text}` in {}. {}",
                        self.name,
                        suggest(text, &self.asked)
                    ),
                );
            }
        }
    }
}

fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
                .map_or_else(|_| serde_json::Value::String(integer.as_str().to_owned()), Into::into)
        }
        DeValue::Float(float) => {
            float.as_str().replace('_', "").parse::<f64>().unwrap_or_default().into()
        }
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())))
                .collect(),
        ),
    }
}

pub(super) fn a_type(value: &DeValue<'_>) -> String {
    match value.type_str() {
        "string" => "a text".into(),
        "array" => "a list".into(),
        "integer" => "a number".into(),
        other => format!("a {other}"),
    }
}
