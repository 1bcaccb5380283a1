//! Deploying, looking and going back, as an operator does.

use guesthouse_tests::deploy::{build, folder, put};
use guesthouse_tests::{House, guest, plugin};
use serde_json::json;
use std::path::Path;

fn start(marker: &str, table: &str) -> (House, std::path::PathBuf) {
    let (folder, component) = folder(marker, "", table);
    (House::start_again(folder, &[], &[]), component)
}

/// The house serves what it served, and nothing of the refused version is left.
fn unharmed(house: &House) {
    assert_eq!(house.get("/"), "one");
    assert_eq!(house.api("/v1/deployments")["plugins"], json!({"guest": 1}));
    assert_eq!(house.files("components").len(), 1);
    assert_eq!(house.files("compiled").len(), 2);
}

#[test]
fn an_operator_deploys_looks_and_goes_back_on_the_command_line() {
    let (house, component) = start("one", "");
    put(&component, &build("two"));
    let (code, text) = house.run(&["deploy", "--dry-run"]);
    assert!(code == 0 && text.contains("1 → 2") && text.contains("code"), "{text}");
    assert_eq!(house.get("/"), "one", "a dry run changes nothing");
    let (code, text) = house.run(&["deploy"]);
    assert!(code == 0 && text.contains("deployment 2 serves"), "{text}");
    assert_eq!(house.get("/"), "two");
    let (code, text) = house.run(&["deploy"]);
    assert!(code == 0 && text.contains("nothing to deploy"), "{text}");
    let (code, text) = house.run(&["deploy", "--force", "--plugin", "guest"]);
    assert!(code == 0 && text.contains("nothing but a new version"), "{text}");
    let (code, text) = house.run(&["versions", "guest"]);
    assert!(code == 0 && text.contains("3        active"), "{text}");
    let (code, text) = house.run(&["rollback", "guest", "1"]);
    assert!(code == 0 && text.contains("data did not"), "{text}");
    assert_eq!(house.get("/"), "one");
    let (code, text) = house.run(&["plugins"]);
    assert!(code == 0 && text.contains("guest") && text.contains("serving"), "{text}");
    let (code, text) = house.run(&["plugins", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(code == 0 && list["plugins"][0]["number"] == 1, "{text}");
    let (code, text) = house.run(&["rollback", "guest"]);
    assert!(code == 3 && text.contains("no version before the active one"), "{text}");
    let (code, text) = house.run(&["rollback", "guest", "99"]);
    assert!(code == 3 && text.contains("no version 99; kept are 1, 2, 3"), "{text}");
}

#[test]
fn a_new_grant_is_refused_unless_it_is_allowed() {
    let (house, _component) = start("one", "");
    house.configure(
        "[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\nkv = [\"notes\"]\n",
    );
    let (status, answer) = house.post("/v1/deployments", &json!({}));
    assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("new-grants")), "{answer}");
    let (code, text) = house.run(&["deploy", "--yes"]);
    assert!(
        code == 1 && text.contains("+ kv notes") && text.contains("--allow-new-grants"),
        "{text}"
    );
    unharmed(&house);
    let (code, text) = house.run(&["deploy", "--yes", "--allow-new-grants"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(house.api("/v1/plugins/guest")["kv"], json!(["notes"]));
    // Giving up a grant needs no leave.
    house.configure("[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\n");
    let (status, answer) = house.post("/v1/deployments", &json!({}));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_deploy_says_which_settings_of_the_house_need_a_restart() {
    let (house, _component) = start("one", "");
    let table = std::fs::read_to_string(house.path().join("guesthouse.toml")).unwrap();
    let (_, text) = house.run(&["deploy"]);
    assert!(!text.contains("started again"), "{text}");
    house.configure(&format!("[auth]\nplugin = \"guest\"\n[server]\ndrain = \"7s\"\n{table}"));
    let (code, text) = house.run(&["deploy"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "take effect when it is started again",
        "auth.plugin: not set → \"guest\"",
        "server.drain: not set → \"7s\"",
        "nothing to deploy",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, answer) = house.post("/v1/deployments", &json!({"dry_run": true}));
    assert_eq!(answer["plan"]["restart"][0]["key"], "auth.plugin");
    // A rollback reads no configuration, and has nothing to say about it.
    let (_, text) = house.run(&["rollback", "guest"]);
    assert!(!text.contains("started again"), "{text}");
}

#[test]
fn a_plan_that_is_no_longer_true_is_not_carried_out() {
    let (house, component) = start("one", "");
    put(&component, &build("two"));
    let (_, planned) = house.post("/v1/deployments", &json!({"dry_run": true}));
    put(&component, &build("three"));
    let (status, answer) = house.post("/v1/deployments", &json!({"plan": planned["plan"]["id"]}));
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("plan-changed")), "{answer}");
    unharmed(&house);
}

#[test]
fn several_plugins_switch_in_one_step_or_none_does() {
    let (house, component) = start("one", "");
    let second = house.path().join("second.wasm");
    put(&second, b"not wasm");
    let both = "[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\n\
                [plugins.second]\ncomponent = \"second.wasm\"\nroutes = [\"/second\"]\n";
    house.configure(both);
    put(&component, &build("two"));
    assert!(house.deploy_refused().contains("second.wasm"));
    unharmed(&house);
    put(&second, &build("second"));
    let done = house.deploy();
    assert_eq!(done["sequence"], 2);
    assert_eq!((house.get("/").as_str(), house.get("/second").as_str()), ("two", "second"));
    // And one goes, which is a change as any other.
    house.configure("[plugins.second]\ncomponent = \"second.wasm\"\nroutes = [\"/second\"]\n");
    house.deploy();
    assert!(house.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").contains(" 404 "));
    assert_eq!(house.get("/second"), "second");
}

#[test]
fn what_is_no_component_for_this_house_is_refused_and_the_old_version_serves() {
    let (house, component) = start("one", "");
    let whole = build("two");
    let cases: [(&[u8], &str); 5] = [
        (b"hello", "not a WebAssembly file"),
        (&whole[..whole.len() / 2], "cut off"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\0asm\x0d\0\x01\0", "exports neither"),
        (&std::fs::read(guest("probe")).unwrap(), "kv = [\"default\"]"),
    ];
    for (bytes, why) in cases {
        put(&component, bytes);
        let text = house.deploy_refused();
        assert!(text.contains(why) && text.contains("nothing was changed"), "{why}: {text}");
        unharmed(&house);
    }
    std::fs::remove_file(&component).unwrap();
    assert!(house.deploy_refused().contains("there is no component"));
    unharmed(&house);
}

#[test]
fn a_component_with_another_digest_than_was_meant_is_refused() {
    let (house, component) = start("one", "");
    put(&component, &build("two"));
    let inspected = house.run(&["inspect", "--json", component.to_str().unwrap()]).1;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let digest = inspected["digest"].as_str().unwrap();
    let config = |digest: &str| {
        format!(
            "[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\ndigest = \"sha256:{digest}\"\n"
        )
    };
    house.configure(&config(&"0".repeat(64)));
    assert!(house.deploy_refused().contains(digest));
    unharmed(&house);
    house.configure(&config(digest));
    house.deploy();
    assert_eq!(house.get("/"), "two");
}

#[test]
fn a_version_that_is_not_well_never_serves() {
    let (house, component) = start("one", "health = \"/health\"");
    put(&component, &build("sick"));
    let text = house.deploy_refused();
    assert!(text.contains("answers 503 to its `health` path /health"), "{text}");
    unharmed(&house);
    put(&component, &build("two"));
    house.deploy();
    assert_eq!(house.get("/"), "two");
}

#[test]
fn a_plugin_that_is_not_well_does_not_serve_from_the_first_start_either() {
    let (_folder, component) = folder("sick", "", "");
    let table = "routes = [\"/*\"]\nhealth = \"/health\"";
    let house = House::start_at_once(&guesthouse_tests::plugin("guest", &component, table));
    house.wait_for_log("answers 503 to its `health` path /health");
    let answer = house.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn compiling_is_bounded_in_time_and_memory() {
    for (settings, knob) in [
        ("compile_timeout = \"100ms\"", "engine.compile_timeout"),
        ("compile_memory = \"64MiB\"", "engine.compile_memory"),
    ] {
        // What the first start needs is compiled under the usual limits.
        let (folder, component) = folder("one", "", "");
        let house = House::start_again(folder, &[], &[]);
        house.configure(&format!(
            "[engine]\n{settings}\n[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\n"
        ));
        let house = House::start_again(house.crash(), &[], &[]);
        put(&component, &bomb());
        let text = house.deploy_refused();
        assert!(text.contains(knob), "{text}");
        unharmed(&house);
    }
}

/// A component that is small, valid, and takes long and much memory to compile: the guest, with a module
/// beside it that has functions of very many instructions.
fn bomb() -> Vec<u8> {
    fn leb(mut number: usize, into: &mut Vec<u8>) {
        loop {
            let byte = u8::try_from(number & 0x7f).unwrap();
            number >>= 7;
            into.push(if number == 0 { byte } else { byte | 0x80 });
            if number == 0 {
                return;
            }
        }
    }
    fn section(id: u8, content: &[u8], into: &mut Vec<u8>) {
        into.push(id);
        leb(content.len(), into);
        into.extend(content);
    }
    const FUNCTIONS: usize = 64;
    // (param i64) (result i64), and a body that never lets go of what it computes.
    let mut body = vec![0];
    for _ in 0..20_000 {
        // local.get 0, local.get 0, i64.mul, i64.load (of memory 0): values that stay alive to the end.
        body.extend([0x20, 0, 0x20, 0, 0x7e, 0x20, 0, 0xa7, 0x29, 3, 0, 0x7c]);
    }
    body.extend(std::iter::repeat_n(0x85, 19_999));
    body.push(0x0b);
    let mut code = Vec::new();
    leb(FUNCTIONS, &mut code);
    let mut functions = Vec::new();
    leb(FUNCTIONS, &mut functions);
    functions.extend([0; FUNCTIONS]);
    for _ in 0..FUNCTIONS {
        leb(body.len(), &mut code);
        code.extend(&body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e], &mut module);
    section(3, &functions, &mut module);
    section(5, &[1, 0, 1], &mut module);
    section(10, &code, &mut module);
    let mut component = build("bomb");
    section(1, &module, &mut component);
    component
}

#[test]
fn a_disk_that_takes_no_more_refuses_the_deploy_and_nothing_else() {
    let (folder, component) = folder("one", "", "");
    let house = House::start_again(folder, &[], &[]);
    let data = house.data();
    put(&component, &build("two"));
    // A folder in the place of the file that is to be written: as on a full or read-only disk, the write
    // fails, and it does so for root too.
    let blocked = |folder: &Path| {
        let aside = folder.with_extension("aside");
        std::fs::rename(folder, &aside).unwrap();
        std::fs::write(folder, b"").unwrap();
        aside
    };
    for what in ["components", "compiled"] {
        let folder = data.join(what);
        let aside = blocked(&folder);
        let text = house.deploy_refused();
        assert!(text.contains(what), "{text}");
        assert_eq!(house.get("/"), "one");
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(aside, &folder).unwrap();
    }
    house.deploy();
    assert_eq!(house.get("/"), "two");
}

#[test]
fn a_secret_that_is_missing_refuses_the_deploy_by_its_name() {
    let (house, _component) = start("one", "");
    let config =
        "[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\nsecrets = [\"KEY_X\"]\n";
    house.configure(config);
    assert!(house.deploy_refused().contains("KEY_X"));
    unharmed(&house);
    put(&house.path().join(".dev.vars"), b"KEY_X=sk-live-1\n");
    let done = house.deploy();
    assert!(!done.to_string().contains("sk-live-1"));
    let versions = house.api("/v1/plugins/guest/versions").to_string();
    assert!(versions.contains("KEY_X") && !versions.contains("sk-live-1"), "{versions}");
}

#[test]
fn the_house_s_own_records_can_t_be_named_from_outside() {
    let (house, _component) = start("one", "");
    let namespaces = house.api("/v1/kv");
    assert!(!namespaces.to_string().contains('!'), "{namespaces}");
    assert_eq!(house.api("/v1/kv/!house")["error"]["code"], "invalid");
    let text =
        House::refuses(&plugin("x", &guest("marker"), "routes = [\"/*\"]\nkv = [\"!house\"]"));
    assert!(text.contains("not a name for a namespace"), "{text}");
}
