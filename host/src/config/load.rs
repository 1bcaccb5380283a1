//! From text to [`Config`]: the file and the tables that all plugins share.

use super::callers;
use super::diagnostics::{ConfigErrors, Problem, suggest};
use super::fetch;
use super::plugin::{Component, Routes, is_name, plugin};
use super::reader::{Problems, Reader, a_type};
use super::turn;
use super::{
    Auth, Cache, Config, Durability, Engine, MOST_INSTANCES, Plugin, Pooling, Server, Storage, Turn,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        strict(Self::load_leniently(file)?)
    }

    /// Reads a configuration of which only the settings of the house are needed: a house that has been
    /// deployed does not need the tables of its plugins, nor their files, to serve what it served. What is
    /// wrong with them comes beside.
    ///
    /// # Errors
    /// Everything that is wrong with the rest.
    pub fn load_leniently(file: &Path) -> Result<(Self, Option<ConfigErrors>), ConfigErrors> {
        let missing =
            |message: String| ConfigErrors::new(file, "", vec![Problem { span: None, message }]);
        let text = std::fs::read_to_string(file).map_err(|error| {
            missing(format!(
                "the configuration can't be read: {error}. Name the file with --config or \
                 GUESTHOUSE_CONFIG; `config/guesthouse.toml` is the reference to start from."
            ))
        })?;
        let file = std::path::absolute(file).map_err(|error| missing(error.to_string()))?;
        parse(&text, &file)
    }

    /// The same from a text that is already there; paths in it are relative to `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
        strict(parse(text, file)?)
    }
}

fn strict((config, plugins): (Config, Option<ConfigErrors>)) -> Result<Config, ConfigErrors> {
    plugins.map_or(Ok(config), Err)
}

fn parse(text: &str, file: &Path) -> Result<(Config, Option<ConfigErrors>), ConfigErrors> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors
            .iter()
            .map(|error| Problem {
                span: error.span(),
                message: format!("this is not TOML: {}.", error.message()),
            })
            .collect();
        return Err(ConfigErrors::new(file, text, problems));
    }
    let (house, plugins) = (Problems::default(), Problems::default());
    let config = read(table.get_ref(), file, &house, &plugins);
    let (mut house, plugins) = (house.take(), plugins.take());
    if !house.is_empty() {
        house.extend(plugins);
        return Err(ConfigErrors::new(file, text, house));
    }
    let errors = (!plugins.is_empty()).then(|| ConfigErrors::new(file, text, plugins));
    Ok((config, errors))
}

fn read(table: &DeTable<'_>, file: &Path, problems: &Problems, of_plugins: &Problems) -> Config {
    let mut root = Reader::new(table, "the configuration", problems);
    let mut config = Config {
        file: file.to_owned(),
        server: Server::default(),
        storage: Storage::default(),
        engine: Engine::default(),
        cache: Cache::default(),
        fetch: fetch::Fetch::default(),
        auth: Auth::default(),
        house: root.as_json(&["plugins"]),
        turn: Turn::default(),
        plugins: BTreeMap::new(),
    };
    if let Some(reader) = root.table("server", "[server]") {
        server(reader, &mut config.server);
    }
    if let Some(reader) = root.table("storage", "[storage]") {
        storage(reader, &mut config.storage);
    }
    if let Some(mut reader) = root.table("engine", "[engine]") {
        let engine = &mut config.engine;
        reader.number("max_instances", &mut engine.max_instances, 1..=u64::from(MOST_INSTANCES));
        reader.word(
            "pooling",
            &mut engine.pooling,
            &[("auto", Pooling::Auto), ("on", Pooling::On), ("off", Pooling::Off)],
        );
        let mut memory = engine.memory.unwrap_or(0);
        reader.size("memory", &mut memory, 64 << 20..=1 << 44);
        engine.memory = (memory > 0).then_some(memory);
        reader.number("call_depth", &mut engine.call_depth, 1..=64);
        optional(&mut reader, "slow_threads", &mut engine.slow_threads, 1..=256);
        reader.duration("compile_timeout", &mut engine.compile_timeout, SECOND / 10..=DAY);
        reader.size("compile_memory", &mut engine.compile_memory, 64 << 20..=1 << 40);
        reader.finish();
    }
    if let Some(mut reader) = root.table("cache", "[cache]") {
        reader.size("max_bytes", &mut config.cache.max_bytes, 0..=1 << 40);
        reader.size("max_entry", &mut config.cache.max_entry, 0..=1 << 32);
        reader.finish();
    }
    if let Some(reader) = root.table("fetch", "[fetch]") {
        config.fetch = fetch::house(reader, file, problems);
    }
    if let Some(reader) = root.table("auth", "[auth]") {
        callers::auth(reader, &mut config.auth);
    }
    if let Some(reader) = root.table("turn", "[turn]") {
        turn::turn(reader, file, &mut config.turn);
    }
    let (mut asks_for_auth, mut calls) = (Vec::new(), Vec::new());
    if let Some(reader) = root.table("plugins", "[plugins]") {
        let problems = of_plugins;
        let mut routes = Routes::new();
        for (name, span, value) in reader.any() {
            let Some(table) = value.get_ref().as_table() else {
                problems.add(
                    value.span(),
                    format!(
                        "`{name}` in [plugins] must be a table, not {}.",
                        a_type(value.get_ref())
                    ),
                );
                continue;
            };
            if !is_name(name, 63, "-") {
                problems.add(
                    span.clone(),
                    format!(
                        "`{name}` is not a name for a plugin: use up to 63 lower-case letters, digits and \
                         hyphens, beginning with a letter or digit."
                    ),
                );
            }
            let reader = Reader::new(table, format!("[plugins.{name}]"), problems);
            let most = config.engine.max_instances;
            let asks = (&mut asks_for_auth, &mut calls);
            let component = Component::Named { file };
            let plugin = plugin(reader, name, span, component, most, problems, &mut routes, asks);
            config.plugins.insert(name.to_owned(), Arc::new(plugin));
        }
    }
    for plugin in config.plugins.values() {
        for peer in &plugin.peers {
            if config.plugins.get(peer).is_none_or(|peer| peer.rooms.is_none()) {
                of_plugins.add(
                    None::<std::ops::Range<usize>>,
                    format!(
                        "`peers` of [plugins.{}] names `{peer}`, and there is no plugin of that name with \
                         `rooms`.",
                        plugin.name
                    ),
                );
            }
        }
    }
    callers::check(&config.auth, &config.plugins, &asks_for_auth, of_plugins);
    check_calls(&config.plugins, &calls, of_plugins);
    root.finish();
    config
}

/// Whether each plugin that is to be called is there. Can only be seen once all tables are read.
fn check_calls(
    plugins: &BTreeMap<String, Arc<Plugin>>,
    calls: &[(String, Range<usize>)],
    problems: &Problems,
) {
    for (callee, span) in calls.iter().filter(|(callee, _)| !plugins.contains_key(callee)) {
        let known: Vec<&str> = plugins.keys().map(String::as_str).collect();
        problems.add(
            span.clone(),
            format!(
                "`calls` names no plugin: there is no [plugins.{callee}]. {}",
                suggest(callee, &known)
            ),
        );
    }
}

fn optional(
    reader: &mut Reader<'_>,
    key: &'static str,
    into: &mut Option<usize>,
    bounds: std::ops::RangeInclusive<u64>,
) {
    let mut number = 0;
    reader.number(key, &mut number, bounds);
    if number > 0 {
        *into = Some(number);
    }
}

fn server(mut reader: Reader<'_>, server: &mut Server) {
    reader.address("listen", &mut server.listen);
    reader.address("admin", &mut server.admin);
    optional(&mut reader, "threads", &mut server.threads, 1..=256);
    reader.duration("drain", &mut server.drain, Duration::ZERO..=DAY);
    reader.duration("swap_drain", &mut server.swap_drain, Duration::ZERO..=DAY);
    reader.duration("header_timeout", &mut server.header_timeout, SECOND / 10..=DAY);
    reader.duration("idle_timeout", &mut server.idle_timeout, SECOND / 10..=DAY);
    reader.duration("linger", &mut server.linger, Duration::ZERO..=SECOND * 60);
    reader.size("linger_bytes", &mut server.linger_bytes, 0..=1 << 40);
    reader.size("max_head", &mut server.max_head, 8192..=1 << 20);
    reader.number("max_headers", &mut server.max_headers, 8..=1000);
    reader.number("max_connections", &mut server.max_connections, 1..=1_000_000);
    reader.truth("access_log", &mut server.access_log);
    callers::proxies(&mut reader, &mut server.trusted_proxies);
    reader.finish();
}

fn storage(mut reader: Reader<'_>, storage: &mut Storage) {
    if let Some((text, span)) = reader.text("engine")
        && text != "rocksdb"
    {
        let message = if text == "nats" {
            "this version has no NATS storage yet: use \"rocksdb\".".to_owned()
        } else {
            format!("`{text}` is not a storage engine: use \"rocksdb\".")
        };
        reader.problem(span, message);
    }
    reader.word(
        "durability",
        &mut storage.durability,
        &[("fsync", Durability::Fsync), ("process", Durability::Process)],
    );
    reader.size("max_value", &mut storage.max_value, 1..=1 << 30);
    reader.number("max_list", &mut storage.max_list, 1..=1000);
    reader.size("block_cache", &mut storage.block_cache, 1 << 20..=1 << 40);
    reader.finish();
}

#[cfg(test)]
mod tests;
