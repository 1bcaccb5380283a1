//! From `[plugins.NAME]` to [`Plugin`].
//!
//! Owns the keys of a plugin's table. A key that asks for a protection which this version lacks is refused:
//! it must not look as if it were there.

use super::load::{DAY, SECOND};
use super::reader::{Problems, Reader};
use super::rooms::{room_route, rooms};
use super::route::RoutePattern;
use super::{
    Breaker, Canary, ConfigErrors, Instances, Limits, Plugin, Problem, callers, fetch, variables,
};
use http::StatusCode;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where a route was written: plugin and text.
pub(super) type Routes =
    HashMap<(Option<http::Method>, Option<String>, Vec<super::route::Segment>), String>;

/// Names, and where they were written, for what can only be seen once all tables are read.
pub(super) type Places = Vec<(String, Range<usize>)>;

/// Where a plugin's component is.
#[derive(Clone, Copy)]
pub(super) enum Component<'a> {
    /// Where `component` says, in relation to this configuration.
    Named {
        /// The configuration.
        file: &'a Path,
    },
    /// Where the house keeps it.
    Stored(&'a Path),
}

impl Plugin {
    /// A plugin from the table that it was once deployed with.
    ///
    /// # Errors
    /// This release understands the table differently than the one that deployed it.
    pub fn stored(
        name: &str,
        table: &serde_json::Map<String, serde_json::Value>,
        component: &Path,
        most_instances: u32,
    ) -> Result<Self, ConfigErrors> {
        let place = PathBuf::from(format!("stored version of [plugins.{name}]"));
        let refuse = |text: &str, message: String| {
            ConfigErrors::new(&place, text, vec![Problem { span: None, message }])
        };
        let text = toml::to_string(table).map_err(|error| refuse("", error.to_string()))?;
        let parsed =
            toml::de::DeTable::parse(&text).map_err(|error| refuse(&text, error.to_string()))?;
        let problems = Problems::default();
        let reader = Reader::new(parsed.get_ref(), format!("[plugins.{name}]"), &problems);
        let component = Component::Stored(component);
        let mut routes = Routes::new();
        let (mut asks, mut calls) = (Vec::new(), Vec::new());
        let plugin = plugin(
            reader,
            name,
            0..0,
            component,
            most_instances,
            &problems,
            &mut routes,
            (&mut asks, &mut calls),
        );
        let problems = problems.take();
        if problems.is_empty() {
            Ok(plugin)
        } else {
            Err(ConfigErrors::new(&place, &text, problems))
        }
    }
}

/// Reads `[plugins.NAME]`.
#[allow(clippy::too_many_arguments, reason = "called in one place")]
pub(super) fn plugin(
    mut reader: Reader<'_>,
    name: &str,
    span: Range<usize>,
    component: Component<'_>,
    most_instances: u32,
    problems: &Problems,
    routes: &mut Routes,
    (asks_for_auth, calls): (&mut Places, &mut Places),
) -> Plugin {
    // A protection that this version lacks must not look as if it were there.
    let component = match component {
        Component::Stored(path) => path.to_owned(),
        Component::Named { file } => match reader.text("component") {
            Some((text, span)) => find_component(text, span, file, problems),
            None => {
                problems.add(
                    span.clone(),
                    format!("[plugins.{name}] needs `component = \"plugins/{name}.wasm\"`."),
                );
                PathBuf::new()
            }
        },
    };
    let mut plugin = Plugin {
        name: name.to_owned(),
        component,
        digest: reader.text("digest").and_then(|(text, span)| read_digest(text, span, problems)),
        health: reader.text("health").and_then(|(text, span)| read_health(text, span, problems)),
        table: reader.as_json(&["component", "digest"]),
        routes: Vec::new(),
        kv: Vec::new(),
        secrets: Vec::new(),
        fetch: Vec::new(),
        calls: Vec::new(),
        peers: Vec::new(),
        config: BTreeMap::new(),
        auth: None,
        preflight: false,
        rate: None,
        budget: None,
        cache: false,
        rooms: None,
        instances: Instances::default(),
        limits: Limits::default(),
        stack_overflow: None,
        breaker: Breaker::default(),
        canary: Canary::default(),
    };
    let mut add = |text: &str, span: Range<usize>, route: Result<RoutePattern, String>| match route
    {
        Ok(route) => {
            let key = (route.method.clone(), route.host.clone(), route.segments.clone());
            if let Some(other) = routes.get(&key) {
                problems.add(
                    span,
                    format!(
                        "the route `{text}` is plugin `{other}`'s already: a request can go to one \
                         plugin only. Remove one of the two, or make one more specific."
                    ),
                );
            } else {
                routes.insert(key, name.to_owned());
                plugin.routes.push(route);
            }
        }
        Err(why) => problems.add(span, format!("{why}.")),
    };
    for (text, span) in reader.texts("routes") {
        add(text, span, RoutePattern::parse(text));
    }
    if let Some(table) = reader.table("rooms", &format!("`rooms` of [plugins.{name}]")) {
        let (rooms, room_routes) = rooms(table, problems);
        for (text, span) in room_routes {
            add(text, span, room_route(text));
        }
        plugin.rooms = Some(rooms);
    }
    for (text, span) in reader.texts("kv") {
        if is_name(text, 63, "-_.") {
            plugin.kv.push(text.to_owned());
        } else {
            problems.add(
                span,
                format!(
                    "`{text}` is not a name for a namespace: use up to 63 lower-case letters, digits, \
                     `-`, `_` and `.`, beginning with a letter or digit."
                ),
            );
        }
    }
    for (text, span) in reader.texts("secrets") {
        if variables::is_name(text) {
            plugin.secrets.push(text.to_owned());
        } else {
            problems.add(
                span,
                format!(
                    "`{text}` is not a name for a secret: write it as an environment variable."
                ),
            );
        }
    }
    plugin.fetch = fetch::grants(&mut reader, name, problems);
    for (text, span) in reader.texts("calls") {
        plugin.calls.push(text.to_owned());
        calls.push((text.to_owned(), span));
    }
    for (text, span) in reader.texts("peers") {
        if is_name(text, 63, "-") {
            plugin.peers.push(text.to_owned());
        } else {
            problems
                .add(span, format!("`{text}` is not a name for a plugin whose rooms are called."));
        }
    }
    if let Some(table) = reader.table("config", &format!("[plugins.{name}.config]")) {
        for (key, _, value) in table.any() {
            match value.get_ref().as_str() {
                Some(text) => match variables::expand(text) {
                    Ok(text) => {
                        plugin.config.insert(key.to_owned(), text);
                    }
                    Err(why) => problems.add(value.span(), format!("{why}.")),
                },
                None => problems.add(
                    value.span(),
                    format!("`{key}` in [plugins.{name}.config] must be a text: plugins read texts only."),
                ),
            }
        }
    }
    if let Some(span) = callers::of_plugin(&mut reader, &mut plugin) {
        asks_for_auth.push((name.to_owned(), span));
    }
    reader.truth("cache", &mut plugin.cache);
    if let Some(mut table) = reader.table("instances", &format!("`instances` of [plugins.{name}]"))
    {
        let instances = &mut plugin.instances;
        table.number("reuse", &mut instances.reuse, 1..=1_000_000_000);
        table.number("concurrent", &mut instances.concurrent, 1..=10_000);
        table.duration("idle", &mut instances.idle, SECOND / 10..=DAY);
        table.finish();
    }
    if let Some(mut table) = reader.table("limits", &format!("`limits` of [plugins.{name}]")) {
        let limits = &mut plugin.limits;
        table.size("memory", &mut limits.memory, 1 << 16..=4 << 30);
        table.duration("cpu", &mut limits.cpu, SECOND / 1000..=DAY);
        table.duration("wall", &mut limits.wall, SECOND / 1000..=DAY);
        table.size("body", &mut limits.body, 0..=1 << 40);
        table.size("headers", &mut limits.headers, 1024..=16 << 20);
        table.number("concurrency", &mut limits.concurrency, 1..=u64::from(most_instances));
        table.number("queue", &mut limits.queue, 0..=1_000_000);
        table.number("outbound", &mut limits.outbound, 1..=100_000);
        table.size("outbound_request", &mut limits.outbound_request, 0..=1 << 40);
        table.size("outbound_response", &mut limits.outbound_response, 0..=1 << 40);
        table.duration("outbound_connect", &mut limits.outbound_connect, SECOND / 1000..=DAY);
        table.duration("outbound_first_byte", &mut limits.outbound_first_byte, SECOND / 1000..=DAY);
        table.duration("outbound_idle", &mut limits.outbound_idle, SECOND / 1000..=DAY);
        table.duration("peer_call", &mut limits.peer_call, SECOND / 1000..=DAY);
        table.number("log", &mut limits.log, 0..=1_000_000);
        table.finish();
    }
    let mut status = 0_u16;
    reader.number("stack_overflow", &mut status, 400..=499);
    plugin.stack_overflow = StatusCode::from_u16(status).ok();
    if let Some(mut table) = reader.table("breaker", &format!("`breaker` of [plugins.{name}]")) {
        let breaker = &mut plugin.breaker;
        table.number("failures", &mut breaker.failures, 0..=1_000_000);
        table.duration("backoff", &mut breaker.backoff, SECOND / 1000..=DAY);
        table.duration("max_backoff", &mut breaker.max_backoff, SECOND / 1000..=DAY);
        table.finish();
        // Whoever raises only the first pause means at least that one.
        breaker.max_backoff = breaker.max_backoff.max(breaker.backoff);
    }
    if let Some(mut table) = reader.table("canary", &format!("`canary` of [plugins.{name}]")) {
        let canary = &mut plugin.canary;
        table.percent("errors", &mut canary.errors);
        table.number("least", &mut canary.least, 1..=1_000_000);
        table.number("window", &mut canary.window, 1..=1_000_000);
        table.finish();
        // Who wants to see more before judging must be able to remember as much.
        canary.window = canary.window.max(canary.least);
    }
    reader.finish();
    plugin
}

/// A path beside the file, or beside the file's folder: `config/guesthouse.toml` names
/// `plugins/x.wasm` of the folder that holds both.
fn find_component(text: &str, span: Range<usize>, file: &Path, problems: &Problems) -> PathBuf {
    let beside = file.parent().unwrap_or(Path::new("/"));
    let candidates = [beside.join(text), beside.parent().unwrap_or(Path::new("/")).join(text)];
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return found.clone();
    }
    let [first, second] = &candidates;
    let hint = Path::new(text)
        .file_name()
        .map(|name| beside.join("plugins").join(name))
        .filter(|path| path.is_file())
        .map_or_else(
            || "Components of this workspace are built by `cargo xtask build`.".to_owned(),
            |path| format!("There is one at {}.", path.display()),
        );
    problems.add(
        span,
        format!("there is no component {}, nor {}. {hint}", first.display(), second.display()),
    );
    first.clone()
}

fn read_digest(text: &str, span: Range<usize>, problems: &Problems) -> Option<String> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    problems.add(
        span,
        format!(
            "`{text}` is not a digest: write \"sha256:\" and 64 hexadecimal digits, as `guesthouse inspect` \
             prints them."
        ),
    );
    None
}

fn read_health(text: &str, span: Range<usize>, problems: &Problems) -> Option<String> {
    let uri = text.parse::<http::uri::PathAndQuery>();
    if text.starts_with('/') && uri.is_ok() {
        return Some(text.to_owned());
    }
    problems.add(span, format!("`{text}` is not a path to ask for: write it as \"/health\"."));
    None
}

/// Lower-case letters and digits, and after the first character also `others`.
pub(super) fn is_name(text: &str, longest: usize, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= longest
        && text.chars().next().is_some_and(plain)
        && text.chars().all(|c| plain(c) || others.contains(c))
}
