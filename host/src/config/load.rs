//! From text to [`Config`].

use super::diagnostics::{ConfigErrors, Problem};
use super::reader::{Problems, Reader, a_type};
use super::route::RoutePattern;
use super::{
    Cache, Config, Durability, Engine, Instances, Limits, MOST_INSTANCES, Plugin, Pooling, Server,
    Storage,
};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let missing =
            |message: String| ConfigErrors::new(file, "", vec![Problem { span: None, message }]);
        let text = std::fs::read_to_string(file).map_err(|error| {
            missing(format!(
                "the configuration can't be read: {error}. Name the file with --config or \
                 GUESTHOUSE_CONFIG; `config/guesthouse.toml` is the reference to start from."
            ))
        })?;
        let file = std::path::absolute(file).map_err(|error| missing(error.to_string()))?;
        Self::parse(&text, &file)
    }

    /// The same from a text that is already there; paths in it are relative to `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
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
        let problems = Problems::default();
        let config = read(table.get_ref(), file, &problems);
        let problems = problems.take();
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors::new(file, text, problems)) }
    }
}

fn read(table: &DeTable<'_>, file: &Path, problems: &Problems) -> Config {
    let mut root = Reader::new(table, "the configuration", problems);
    root.refuse("turn", "this version has no TURN relay yet.");
    let mut config = Config {
        file: file.to_owned(),
        server: Server::default(),
        storage: Storage::default(),
        engine: Engine::default(),
        cache: Cache::default(),
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
        optional(&mut reader, "slow_threads", &mut engine.slow_threads, 1..=256);
        reader.finish();
    }
    if let Some(mut reader) = root.table("cache", "[cache]") {
        reader.size("max_bytes", &mut config.cache.max_bytes, 0..=1 << 40);
        reader.size("max_entry", &mut config.cache.max_entry, 0..=1 << 32);
        reader.finish();
    }
    if let Some(reader) = root.table("plugins", "[plugins]") {
        let mut routes = HashMap::new();
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
            let plugin = plugin(reader, name, span, file, most, problems, &mut routes);
            config.plugins.insert(name.to_owned(), Arc::new(plugin));
        }
    }
    root.finish();
    config
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
    reader.duration("header_timeout", &mut server.header_timeout, SECOND / 10..=DAY);
    reader.duration("idle_timeout", &mut server.idle_timeout, SECOND / 10..=DAY);
    reader.size("max_head", &mut server.max_head, 8192..=1 << 20);
    reader.number("max_headers", &mut server.max_headers, 8..=1000);
    reader.number("max_connections", &mut server.max_connections, 1..=1_000_000);
    reader.truth("access_log", &mut server.access_log);
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

/// Where a route was written: plugin and text.
type Routes = HashMap<(Option<http::Method>, Option<String>, Vec<super::route::Segment>), String>;

fn plugin(
    mut reader: Reader<'_>,
    name: &str,
    span: Range<usize>,
    file: &Path,
    most_instances: u32,
    problems: &Problems,
    routes: &mut Routes,
) -> Plugin {
    // A protection that this version lacks must not look as if it were there.
    for (key, what) in [
        ("auth", "authentication"),
        ("rate", "rate limits"),
        ("fetch", "outbound requests"),
        ("rooms", "rooms"),
    ] {
        reader.refuse(
            key,
            &format!(
                "this version has no {what} yet, and refuses rather than run without what was asked for. \
                 Remove the line."
            ),
        );
    }
    let component = match reader.text("component") {
        Some((text, span)) => find_component(text, span, file, problems),
        None => {
            problems.add(
                span.clone(),
                format!("[plugins.{name}] needs `component = \"plugins/{name}.wasm\"`."),
            );
            PathBuf::new()
        }
    };
    let mut plugin = Plugin {
        name: name.to_owned(),
        component,
        routes: Vec::new(),
        kv: Vec::new(),
        secrets: Vec::new(),
        config: BTreeMap::new(),
        cache: false,
        instances: Instances::default(),
        limits: Limits::default(),
    };
    for (text, span) in reader.texts("routes") {
        match RoutePattern::parse(text) {
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
        }
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
        let mut letters = text.chars();
        if letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
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
    if let Some(table) = reader.table("config", &format!("[plugins.{name}.config]")) {
        for (key, _, value) in table.any() {
            match value.get_ref().as_str() {
                Some(text) => {
                    plugin.config.insert(key.to_owned(), text.to_owned());
                }
                None => problems.add(
                    value.span(),
                    format!("`{key}` in [plugins.{name}.config] must be a text: plugins read texts only."),
                ),
            }
        }
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
        table.finish();
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

/// Lower-case letters and digits, and after the first character also `others`.
fn is_name(text: &str, longest: usize, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= longest
        && text.chars().next().is_some_and(plain)
        && text.chars().all(|c| plain(c) || others.contains(c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wasm"), "").unwrap();
        match Config::parse(text, &folder.path().join("guesthouse.toml")) {
            Ok(_) => panic!("accepted: {text}"),
            Err(errors) => errors.to_string(),
        }
    }

    fn accepted(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wasm"), "").unwrap();
        Config::parse(text, &folder.path().join("guesthouse.toml"))
            .unwrap_or_else(|e| panic!("{e}"))
    }

    const PLUGIN: &str = "[plugins.a]\ncomponent = \"a.wasm\"\n";

    #[test]
    fn an_empty_file_has_the_defaults() {
        let config = accepted("");
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8787");
        assert!(config.plugins.is_empty());
    }

    #[test]
    fn a_plugin_is_read_whole() {
        let config = accepted(
            "[plugins.a]\ncomponent = \"a.wasm\"\nroutes = [\"/*\", \"GET /x\"]\nkv = [\"assets\"]\n\
             cache = true\nsecrets = [\"KEY\"]\nconfig = { base = \"b\" }\n\
             instances = { reuse = 1000, concurrent = 2, idle = \"5s\" }\n\
             limits = { memory = \"64MiB\", cpu = \"200ms\", wall = \"120s\", body = \"10MiB\", \
             headers = 4096, concurrency = 4, queue = 0 }\n",
        );
        let plugin = config.plugins.get("a").unwrap();
        assert_eq!(plugin.routes.len(), 2);
        assert_eq!(plugin.limits.memory, 64 << 20);
        assert_eq!(plugin.limits.queue, 0);
        assert_eq!(plugin.instances.reuse, 1000);
        assert_eq!(plugin.config.get("base").map(String::as_str), Some("b"));
    }

    #[test]
    fn every_wrong_line_says_where_and_what_to_do() {
        let p = |line: &str| format!("{PLUGIN}{line}\n");
        for (text, expected) in [
            (
                "[server]\nlistn = \"x\"\n".into(),
                "guesthouse.toml:2:1: There is no `listn` in [server]. Did you mean `listen`?",
            ),
            ("[sever]\n".into(), "Did you mean `server`?"),
            (
                "[server]\nlisten = 8787\n".into(),
                ":2:10: `listen` in [server] must be a text in quotes, not a number.",
            ),
            ("[server]\nlisten = \"localhost\"\n".into(), "write IP and port"),
            ("[server]\nadmin = \"1.2.3.4\"\n".into(), "write IP and port"),
            ("[server]\nthreads = 0\n".into(), "from 1 to 256"),
            ("[server]\ndrain = 30\n".into(), "as \"30s\""),
            ("[server]\ndrain = \"30\"\n".into(), "has no unit"),
            ("[server]\nheader_timeout = \"1ms\"\n".into(), "must be from 100ms"),
            ("[server]\nidle_timeout = \"x\"\n".into(), "is not a duration"),
            ("[server]\nmax_head = \"1KiB\"\n".into(), "from 8192 to 1048576 bytes"),
            ("[server]\nmax_headers = 2000\n".into(), "from 8 to 1000"),
            ("[server]\nmax_connections = -1\n".into(), "from 1 to 1000000"),
            ("[server]\naccess_log = \"yes\"\n".into(), "true or false"),
            ("[storage]\nengine = \"nats\"\n".into(), "no NATS storage yet"),
            ("[storage]\nengine = \"sled\"\n".into(), "use \"rocksdb\""),
            ("[storage]\ndurability = \"fsnc\"\n".into(), "Did you mean `fsync`?"),
            ("[storage]\nmax_value = \"2GiB\"\n".into(), "bytes"),
            ("[storage]\nmax_list = 1001\n".into(), "from 1 to 1000"),
            ("[storage]\nblock_cache = \"1MB\"\n".into(), "from 1048576"),
            ("[engine]\nmax_instances = 100000\n".into(), "from 1 to 4000"),
            ("[engine]\npooling = true\n".into(), "must be a text"),
            ("[engine]\npooling = \"of\"\n".into(), "Did you mean `off`?"),
            ("[engine]\nslow_threads = 1000\n".into(), "from 1 to 256"),
            ("[cache]\nmax_bytes = \"64 Mib\"\n".into(), "not a unit of size"),
            ("[cache]\nmax_entry = []\n".into(), "not a list"),
            ("[turn]\n".into(), "no TURN relay yet"),
            ("plugins = 3\n".into(), "must be a table"),
            ("[plugins]\na = 3\n".into(), "must be a table"),
            ("[plugins.A]\ncomponent = \"a.wasm\"\n".into(), "not a name for a plugin"),
            ("[plugins.a]\n".into(), "needs `component"),
            ("[plugins.a]\ncomponent = \"b.wasm\"\n".into(), "there is no component /"),
            (p("routs = []"), "Did you mean `routes`?"),
            (p("routes = \"/*\""), "a list of texts"),
            (p("routes = [\"x\"]"), "must begin with `/`"),
            (p("routes = [\"/a\", \"/a\"]"), "plugin `a`'s already"),
            (p("kv = [\"A b\"]"), "not a name for a namespace"),
            (p("secrets = [\"1X\"]"), "not a name for a secret"),
            (p("auth = \"required\""), "no authentication yet"),
            (p("rate = \"20/min\""), "no rate limits yet"),
            (p("fetch = [\"https://x\"]"), "no outbound requests yet"),
            (p("config = { a = 1 }"), "plugins read texts only"),
            (p("cache = 1"), "true or false"),
            (p("instances = { reuse = 0 }"), "from 1"),
            (p("instances = { concurrent = 0 }"), "from 1"),
            (p("instances = { idle = \"1ms\" }"), "must be from"),
            (p("instances = { reuses = 1 }"), "Did you mean `reuse`?"),
            (p("limits = { memory = \"8GiB\" }"), "bytes"),
            (p("limits = { cpu = \"0s\" }"), "must be from"),
            (p("limits = { wall = 1 }"), "a duration in quotes"),
            (p("limits = { body = -1 }"), "whole number"),
            (p("limits = { headers = 1 }"), "from 1024"),
            (p("limits = { concurrency = 2000 }"), "from 1 to 1000"),
            (p("limits = { queue = 1.5 }"), "whole number"),
            (p("limits = { mem = 1 }"), "Did you mean `memory`?"),
            ("[server\n".into(), "this is not TOML"),
            ("[server]\ndrain = \"1s\"\ndrain = \"2s\"\n".into(), "this is not TOML"),
        ] {
            let shown = errors(&text);
            assert!(shown.contains(expected), "{text}\ngave\n{shown}\nexpected {expected}");
            assert!(shown.contains("guesthouse.toml:"), "no line in {shown}");
        }
    }

    #[test]
    fn two_plugins_with_one_route_are_refused() {
        let shown = errors(
            "[plugins.a]\ncomponent = \"a.wasm\"\nroutes = [\"/x/{id}\"]\n[plugins.b]\n\
             component = \"a.wasm\"\nroutes = [\"/x/{name}\"]\n",
        );
        assert!(shown.contains(":6:"), "{shown}");
        assert!(shown.contains("plugin `a`'s already"), "{shown}");
    }

    #[test]
    fn all_problems_come_at_once_in_the_order_of_the_file() {
        let shown = errors("[server]\nlistn = 1\ndrain = 2\n[engine]\npool = 3\n");
        let (first, second) = (shown.find("listn").unwrap(), shown.find("`drain`").unwrap());
        assert!(first < second && second < shown.find("`pool`").unwrap(), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", plugin in ".*") {
            let file = Path::new("/nowhere/guesthouse.toml");
            for text in [text, format!("[plugins.a]\n{plugin}")] {
                if let Err(errors) = Config::parse(&text, file) {
                    for problem in errors.problems() {
                        if let Some(span) = &problem.span {
                            assert!(span.start <= text.len());
                        }
                    }
                    _ = errors.to_string();
                }
            }
        }
    }
}
