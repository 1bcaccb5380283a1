//! From `rooms = { … }` to [`Rooms`].
//!
//! Owns the keys of a plugin's rooms.

use super::load::{DAY, SECOND};
use super::reader::{Problems, Reader};
use super::route::RoutePattern;
use std::time::Duration;

/// `rooms = { … }`: the rooms of a plugin, and what one of them may use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooms {
    /// From which pages WebSockets may be opened.
    pub origins: Origins,
    /// How long a room keeps its instance without an event. Default 10 s.
    pub idle: Duration,
    /// Bytes of a message from a client. Default 1 MiB.
    pub message: usize,
    /// Messages that a connection may send in a second; as many may come at once. Default 100.
    pub rate: u32,
    /// Frames that a connection may send in a second, of which messages are made; as many may come at once. Default
    /// 10,000; at least `rate`.
    pub frames: u32,
    /// Bytes that may wait to be written to one connection. Default 1 MiB.
    pub queue: usize,
    /// Events that may wait for a room. Default 1024.
    pub mailbox: usize,
    /// Connections of one room. Default 10,000.
    pub sockets: usize,
    /// Bytes of keys and values of one room. Default 256 MiB.
    pub storage: u64,
    /// Keys of one room. Default 1,000,000.
    pub keys: u64,
    /// Bytes of keys and values of all rooms of the plugin. Default 16 GiB.
    pub plugin_storage: u64,
    /// Keys of all rooms of the plugin. Default 100,000,000.
    pub plugin_keys: u64,
    /// Connections of all rooms of the plugin. Default 100,000.
    pub plugin_sockets: usize,
    /// Events that all rooms of the plugin may have in a second; as many may come at once. Default 100,000.
    pub plugin_events: u32,
    /// How long a room waits before it tries a failed alarm again; then it doubles. Default 2 s.
    pub alarm_retry: Duration,
    /// How often the host pings a silent client. Default 30 s.
    pub ping: Duration,
    /// How long a one-time ticket may wait to be shown. Default 30 s.
    pub ticket: Duration,
    /// The number of the storage's schema: a room that was written under a higher one is not opened. Default 0.
    pub schema: u32,
}

/// `rooms.origins`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the host that the request is for, and programs that send no origin.
    Same,
    /// Any page.
    Any,
    /// Pages of these origins, and programs that send none.
    Listed(Vec<String>),
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            origins: Origins::Same,
            idle: Duration::from_secs(10),
            message: 1 << 20,
            rate: 100,
            frames: 10_000,
            queue: 1 << 20,
            mailbox: 1024,
            sockets: 10_000,
            storage: 256 << 20,
            keys: 1_000_000,
            plugin_storage: 16 << 30,
            plugin_keys: 100_000_000,
            plugin_sockets: 100_000,
            plugin_events: 100_000,
            alarm_retry: Duration::from_secs(2),
            ping: Duration::from_secs(30),
            ticket: Duration::from_secs(30),
            schema: 0,
        }
    }
}

/// Reads `rooms` of a plugin; the routes are given back with what leads to them.
pub(super) fn rooms<'a>(
    mut reader: Reader<'a>,
    problems: &Problems,
) -> (Rooms, Vec<(&'a str, std::ops::Range<usize>)>) {
    let mut rooms = Rooms::default();
    let routes = reader.texts("routes");
    let origins = reader.texts("origins");
    if origins.iter().any(|(text, _)| *text == "*") {
        rooms.origins = Origins::Any;
    } else if !origins.is_empty() {
        let mut listed = Vec::new();
        for (text, span) in origins {
            let valid = text.split_once("://").is_some_and(|(scheme, rest)| {
                matches!(scheme, "http" | "https") && !rest.is_empty() && !rest.contains('/')
            });
            if valid {
                listed.push(text.to_ascii_lowercase());
            } else {
                problems.add(
                    span,
                    format!(
                        "`{text}` is not an origin: write scheme, host and, unless it is the usual one, \
                         port, as \"https://app.example.com\"; \"*\" is any."
                    ),
                );
            }
        }
        rooms.origins = Origins::Listed(listed);
    }
    reader.duration("idle", &mut rooms.idle, Duration::ZERO..=DAY);
    reader.size("message", &mut rooms.message, 1..=32 << 20);
    reader.number("rate", &mut rooms.rate, 1..=1_000_000);
    reader.number("frames", &mut rooms.frames, 1..=100_000_000);
    reader.size("queue", &mut rooms.queue, 1024..=1 << 30);
    reader.number("mailbox", &mut rooms.mailbox, 1..=1_000_000);
    reader.number("sockets", &mut rooms.sockets, 1..=1_000_000);
    reader.size("storage", &mut rooms.storage, 0..=1 << 40);
    reader.number("keys", &mut rooms.keys, 0..=1 << 40);
    reader.size("plugin_storage", &mut rooms.plugin_storage, 0..=1 << 50);
    reader.number("plugin_keys", &mut rooms.plugin_keys, 0..=1 << 50);
    reader.number("plugin_sockets", &mut rooms.plugin_sockets, 1..=10_000_000);
    reader.number("plugin_events", &mut rooms.plugin_events, 1..=100_000_000);
    reader.duration("alarm_retry", &mut rooms.alarm_retry, SECOND / 1000..=DAY);
    reader.duration("ping", &mut rooms.ping, SECOND / 10..=DAY);
    reader.duration("ticket", &mut rooms.ticket, SECOND..=SECOND * 3600);
    reader.number("schema", &mut rooms.schema, 0..=u64::from(u32::MAX));
    // A message is a frame at least.
    rooms.frames = rooms.frames.max(rooms.rate);
    reader.finish();
    (rooms, routes)
}

/// A route of rooms: it has `{room}` once, and takes every method.
pub(super) fn room_route(text: &str) -> Result<RoutePattern, String> {
    let mut route = RoutePattern::parse(text)?;
    if route.method.is_some() {
        return Err(format!("the route `{text}` leads to rooms, which take every method"));
    }
    route.room = route.placeholder("room");
    if route.room.is_none() {
        return Err(format!(
            "the route `{text}` leads to rooms and must say where a room's name stands, as \
             \"/live/{{room}}\" or \"/live/{{room}}/*\""
        ));
    }
    Ok(route)
}
