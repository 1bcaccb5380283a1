//! Every line that can be wrong, and what is said of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::config::{AuthMode, Quota};

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
    Config::parse(text, &folder.path().join("guesthouse.toml")).unwrap_or_else(|e| panic!("{e}"))
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
         cache = true\nstack_overflow = 499\nsecrets = [\"KEY\"]\nconfig = { base = \"b\" }\n\
         instances = { reuse = 1000, concurrent = 2, idle = \"5s\" }\n\
         limits = { memory = \"64MiB\", cpu = \"200ms\", wall = \"120s\", body = \"10MiB\", \
         headers = 4096, concurrency = 4, queue = 0 }\n",
    );
    let plugin = config.plugins.get("a").unwrap();
    assert_eq!(plugin.routes.len(), 2);
    assert_eq!(plugin.limits.memory, 64 << 20);
    assert_eq!(plugin.limits.queue, 0);
    assert_eq!(plugin.stack_overflow.map(|status| status.as_u16()), Some(499));
    assert_eq!(plugin.instances.reuse, 1000);
    assert_eq!(plugin.config.get("base").map(String::as_str), Some("b"));
}

#[test]
fn a_plugin_can_be_read_again_from_what_is_kept_of_it() {
    let table = "routes = [\"/*\"]\nkv = [\"notes\"]\ncache = true\nhealth = \"/up\"\n\
                 config = { base = \"b\\n\", \"odd key\" = \"x\" }\nlimits = { cpu = \"10ms\", queue = 0x10 }\n";
    let config = accepted(&format!("{PLUGIN}digest = \"sha256:{}\"\n{table}", "a".repeat(64)));
    let named = config.plugins.get("a").unwrap();
    let component = Path::new("/data/components/x.wasm");
    let stored = crate::config::Plugin::stored("a", &named.table, component, 1000).unwrap();
    assert_eq!(stored.component, component);
    assert!(named.digest.is_some() && stored.digest.is_none());
    assert_eq!(stored.table, named.table);
    assert_eq!(
        (stored.routes, stored.kv, stored.config, stored.limits, stored.health, stored.cache),
        (
            named.routes.clone(),
            named.kv.clone(),
            named.config.clone(),
            named.limits,
            named.health.clone(),
            named.cache
        )
    );
}

#[test]
fn wrong_plugins_are_told_apart_from_wrong_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guesthouse.toml");
    std::fs::write(&file, "[server]\nthreads = 3\n[plugins.a]\ncomponent = \"gone.wasm\"\n")
        .unwrap();
    let (config, errors) = Config::load_leniently(&file).unwrap();
    assert_eq!(config.server.threads, Some(3));
    assert!(errors.unwrap().to_string().contains("gone.wasm"));
    assert!(Config::load(&file).is_err());
    std::fs::write(&file, "[server]\nthreds = 3\n").unwrap();
    assert!(Config::load_leniently(&file).is_err());
}

#[test]
fn quotas_and_modes_of_callers_are_read() {
    let config = accepted(&format!(
        "[auth]\nplugin = \"a\"\ncookies = []\n{PLUGIN}auth = \"optional\"\nrate = \"20/min\"\n\
         budget_tokens = \"200_000/day\"\n"
    ));
    let plugin = config.plugins.get("a").unwrap();
    assert_eq!(plugin.auth, Some(AuthMode::Optional));
    assert_eq!(plugin.rate, Some(Quota { count: 20, per: Duration::from_secs(60) }));
    assert_eq!(plugin.budget, Some(Quota { count: 200_000, per: DAY }));
    assert!(config.auth.cookies.is_empty());
    assert!(!plugin.preflight);
    let config = accepted(&format!(
        "[auth]\nplugin = \"a\"\n{PLUGIN}auth = \"required\"\npreflight = true\n"
    ));
    assert!(config.plugins.get("a").unwrap().preflight);
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
        (p("digest = \"sha256:12\""), "64 hexadecimal digits"),
        (p("health = \"up\""), "is not a path"),
        (p("stack_overflow = 399"), "from 400 to 499"),
        (p("stack_overflow = 500"), "from 400 to 499"),
        (
            "[engine]\ncompile_memory = \"1MiB\"\n".into(),
            "`compile_memory` in [engine] must be from",
        ),
        ("[server]\nswap_drain = \"2 days\"\n".into(), "unit of time"),
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
        (p("fetch = \"https://x\""), "must be a list"),
        (p("fetch = [\"x\"]"), "begin with https://"),
        (p("fetch = [{ url = \"https://x\", inject = { host = \"y\" } }]"), "can't be injected"),
        (p("fetch = [{ allow_private = true }]"), "needs `url"),
        ("[fetch]\nroots = \"none.pem\"\n".into(), "no file"),
        ("[fetch]\nhosts = { x = \"10.0.0.1\" }\n".into(), "list of IP addresses"),
        (p("calls = [\"b\"]"), "there is no [plugins.b]. Known here: a."),
        (
            format!(
                "{PLUGIN}calls = [\"transpil\"]\n[plugins.transpile]\ncomponent = \"a.wasm\"\n"
            ),
            "Did you mean `transpile`?",
        ),
        (p("calls = \"a\""), "calls"),
        ("[engine]\ncall_depth = 0\n".into(), "from 1 to 64"),
        (p("auth = \"required\""), "nobody is there to give it: name the plugin"),
        (p("auth = \"requird\""), "Did you mean `required`?"),
        (
            format!("[auth]\nplugin = \"a\"\n{PLUGIN}auth = \"optional\"\npreflight = true\n"),
            "`preflight` is for a plugin with `auth = \"required\"`",
        ),
        (p("preflight = 1"), "true or false"),
        ("[auth]\nplugin = \"nobody\"\n".into(), "there is no [plugins.nobody]"),
        (
            format!("[auth]\nplugin = \"a\"\n{PLUGIN}config = {{ dev_public_key = \"x\" }}\n"),
            "set by the house itself",
        ),
        (p("rate = \"20\""), "write \"20/min\""),
        (p("rate = \"0/min\""), "the number must be 1 to"),
        (p("rate = \"5/100ms\""), "the time must be 1 s to 31 days"),
        (p("budget_tokens = \"10/year\""), "write \"20/min\""),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/99\"]\n".into(),
            "`10.0.0.0/99` is not a network",
        ),
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
        (p("canary = { errors = 5 }"), "a share in quotes, as \"5%\""),
        (p("canary = { errors = \"5\" }"), "a whole number from 0 to 100 and a sign"),
        (p("canary = { least = 0 }"), "from 1"),
        (p("canary = { windw = 1 }"), "Did you mean `window`?"),
        (p("rooms = { frames = 0 }"), "from 1"),
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

/// The reference configuration with every key that it has commented out. A key that is there twice is an
/// alternative, and left alone.
fn reference_with_everything() -> String {
    let reference = include_str!("../../../../config/guesthouse.toml");
    let mut seen = std::collections::BTreeSet::new();
    let mut whole = String::new();
    for line in reference.lines() {
        if line.starts_with('[') {
            seen.clear();
        }
        let content = line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#']));
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
        match content {
            Some(content) if key(content).is_some_and(|key| seen.insert(key)) => whole += content,
            Some(_) => {}
            None => {
                seen.extend(key(line));
                whole += line;
            }
        }
        whole.push('\n');
    }
    ["assets", "auth", "cms", "transpile", "live", "turn"]
        .iter()
        .fold(whole, |text, name| text.replace(&format!("plugins/{name}.wasm"), "a.wasm"))
}

#[test]
fn the_reference_says_what_the_defaults_are() {
    let shown = accepted(&reference_with_everything());
    let Config { server, storage, engine, cache, turn, plugins, .. } = accepted(PLUGIN);
    let mut with_threads = (server, engine);
    // Their defaults depend on the machine.
    with_threads.0.threads = shown.server.threads;
    with_threads.1.slow_threads = shown.engine.slow_threads;
    with_threads.1.memory = shown.engine.memory;
    assert_eq!(format!("{:?}", shown.server), format!("{:?}", with_threads.0));
    assert_eq!(format!("{:?}", shown.engine), format!("{:?}", with_threads.1));
    assert_eq!(format!("{:?}", shown.storage), format!("{storage:?}"));
    assert_eq!(format!("{:?}", shown.cache), format!("{cache:?}"));
    // What has no default but an example.
    let examples = crate::config::Turn {
        listen: Vec::new(),
        certificate: None,
        key: None,
        urls: Vec::new(),
        relay: Vec::new(),
        external: Vec::new(),
        deny: Vec::new(),
        ..shown.turn.clone()
    };
    assert_eq!(format!("{examples:?}"), format!("{turn:?}"));
    let (shown, plain) = (shown.plugins.get("assets").unwrap(), plugins.get("a").unwrap());
    assert_eq!(shown.limits, plain.limits);
    assert_eq!(shown.breaker, plain.breaker);
    assert_eq!(shown.canary, plain.canary);
}

#[test]
fn what_follows_from_another_setting_is_at_least_that() {
    let lines = "canary = { least = 500 }\nrooms = { rate = 50000 }\n";
    let config = accepted(&format!("{PLUGIN}{lines}"));
    let plugin = config.plugins.get("a").unwrap();
    assert_eq!(plugin.canary.window, 500);
    assert_eq!(plugin.rooms.as_ref().unwrap().frames, 50_000);
}

#[test]
fn the_reference_has_every_key_that_is_known() {
    let reference = include_str!("../../../../config/guesthouse.toml");
    for (text, inside) in [
        ("[server]\nqqqq = 1\n".to_owned(), "[server]"),
        ("[storage]\nqqqq = 1\n".to_owned(), "[storage]"),
        ("[engine]\nqqqq = 1\n".to_owned(), "[engine]"),
        ("[cache]\nqqqq = 1\n".to_owned(), "[cache]"),
        ("[fetch]\nqqqq = 1\n".to_owned(), "[fetch]"),
        ("[auth]\nqqqq = 1\n".to_owned(), "[auth]"),
        ("[turn]\nqqqq = 1\n".to_owned(), "[turn]"),
        (format!("{PLUGIN}qqqq = 1\n"), "[plugins.a]"),
        (format!("{PLUGIN}limits = {{ qqqq = 1 }}\n"), "limits"),
        (format!("{PLUGIN}instances = {{ qqqq = 1 }}\n"), "instances"),
        (format!("{PLUGIN}canary = {{ qqqq = 1 }}\n"), "canary"),
        (format!("{PLUGIN}rooms = {{ qqqq = 1 }}\n"), "rooms"),
    ] {
        let shown = errors(&text);
        let (_, known) = shown.split_once("Known here: ").unwrap_or_else(|| panic!("{shown}"));
        let known = known.split('.').next().unwrap_or_default();
        for key in known.split(", ") {
            // What a later version will know is refused, and not documented.
            if inside == "[plugins.a]" && errors(&format!("{PLUGIN}{key} = 1\n")).contains(" yet") {
                continue;
            }
            assert!(
                reference.contains(&format!("{key} = ")),
                "`{key}` of {inside} is not in config/guesthouse.toml"
            );
        }
    }
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
