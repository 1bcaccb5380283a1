//! Two versions of a plugin at a time: who gets which, and the three ends of a canary.

use guesthouse_tests::asking::ask;
use guesthouse_tests::deploy::{build, folder, put};
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use reqwest::Client;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Callers come from this machine, and say where they come from.
const SERVER: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\naccess_log = false\n";

fn start(table: &str) -> (House, PathBuf) {
    let (folder, component) = folder("one", SERVER, table);
    (House::start_again(folder, &[], &[]), component)
}

/// Deploys a build for so many of a hundred callers.
fn canary(house: &House, component: &std::path::Path, marker: &str, percent: u8) -> Value {
    put(component, &build(marker));
    let (status, answer) = house.post("/v1/deployments", &json!({"canary": percent}));
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The status and the build that a caller is served by.
async fn served(client: &Client, house: &House, path: &str, caller: u32) -> (u16, String) {
    let [_, a, b, c] = caller.to_be_bytes();
    let request = client
        .get(format!("{}{path}", house.url))
        .header("x-forwarded-for", format!("10.{a}.{b}.{c}"));
    let answer = request.send().await.unwrap();
    let build = answer.headers().get("x-version").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), build.unwrap_or_default().trim_end_matches('-').to_owned())
}

/// The builds that so many callers are served by.
async fn builds(house: &House, callers: u32) -> Vec<String> {
    let (client, mut builds) = (Client::new(), Vec::new());
    for caller in 0..callers {
        let (status, build) = served(&client, house, "/", caller).await;
        assert_eq!(status, 200);
        builds.push(build);
    }
    builds
}

fn count(builds: &[String], wanted: &str) -> usize {
    builds.iter().filter(|build| *build == wanted).count()
}

fn shown(house: &House, arguments: &[&str]) -> String {
    let (code, text) = house.run(arguments);
    assert_eq!(code, 0, "{text}");
    text
}

#[tokio::test]
async fn a_share_of_the_callers_gets_the_canary_and_each_keeps_what_it_got() {
    let (house, component) = start("cache = true");
    put(&component, &build("two"));
    let text = shown(&house, &["deploy", "--canary", "10%"]);
    assert!(text.contains("1 → 2") && text.contains("10% of the callers"), "{text}");
    let first = builds(&house, 600).await;
    let (new, old) = (count(&first, "two"), count(&first, "one"));
    assert_eq!(new + old, 600);
    assert!((30..=100).contains(&new), "{new} of 600 are not 10%");
    assert_eq!(builds(&house, 600).await, first, "also from the cache");

    // It is the same after a crash, and needs nothing of the operator's files.
    std::fs::remove_file(&component).unwrap();
    let house = House::start_again(house.crash(), &[], &[]);
    assert_eq!(builds(&house, 600).await, first);
    assert_eq!(
        house.api("/v1/deployments")["canaries"],
        json!({"guest": {"version": 2, "percent": 10}})
    );
    assert_eq!(house.api("/v1/health")["engine"]["compilations"], 0);

    // More callers get it, and nobody loses it.
    shown(&house, &["promote", "guest", "50%"]);
    let more = builds(&house, 600).await;
    let new = count(&more, "two");
    assert!((230..=370).contains(&new), "{new} of 600 are not 50%");
    assert!(first.iter().zip(&more).all(|(first, more)| first == "one" || more == "two"));
    let text = shown(&house, &["versions", "guest"]);
    assert!(text.contains("canary 50%") && text.contains("active"), "{text}");
    let text = shown(&house, &["plugins"]);
    assert!(text.contains("version 2 (serving) serves 50% of the callers"), "{text}");

    shown(&house, &["promote", "guest"]);
    assert_eq!(count(&builds(&house, 100).await, "two"), 100);
    house.wait_until_drained();
    assert_eq!(house.api("/v1/deployments")["plugins"], json!({"guest": 2}));
    assert_eq!(house.api("/v1/plugins/guest")["canary"], Value::Null);
    let (code, text) = house.run(&["promote", "guest"]);
    assert!(code == 3 && text.contains("no canary of plugin `guest`"), "{text}");
}

#[tokio::test]
async fn an_operator_takes_a_canary_back() {
    let (house, component) = start("");
    canary(&house, &component, "two", 50);
    assert!(count(&builds(&house, 60).await, "two") > 5);
    let text = shown(&house, &["rollback", "guest"]);
    assert!(text.contains("version 2 ends"), "{text}");
    assert_eq!(count(&builds(&house, 60).await, "one"), 60);
    house.wait_until_drained();
    // The file still says what the canary was: it is the next version, whether for some or for all.
    assert_eq!(canary(&house, &component, "two", 20)["plan"]["plugins"][0]["to"], 3);
    // A number takes both back.
    shown(&house, &["rollback", "guest", "2"]);
    assert_eq!(count(&builds(&house, 60).await, "two"), 60);
    assert_eq!(house.api("/v1/deployments")["canaries"], json!({}));
}

#[tokio::test]
async fn a_deploy_goes_past_a_canary_that_is_what_the_file_says_and_replaces_any_other() {
    let (house, component) = start("");
    canary(&house, &component, "two", 30);
    let text = shown(&house, &["deploy", "--yes"]);
    assert!(text.contains("nothing to deploy"), "{text}");
    assert_eq!(house.api("/v1/deployments")["canaries"]["guest"]["percent"], 30);
    // With another share it is the same canary.
    let answer = canary(&house, &component, "two", 60);
    assert_eq!(answer["plan"]["plugins"][0]["to"], 2);
    assert_eq!(house.api("/v1/deployments")["canaries"]["guest"]["percent"], 60);
    // Another build takes its place.
    let answer = canary(&house, &component, "three", 60);
    assert_eq!(answer["plan"]["plugins"][0]["ends"], 2);
    let found = builds(&house, 60).await;
    assert!(count(&found, "three") > 5 && count(&found, "one") > 5, "{found:?}");
    // And one for all ends both.
    put(&component, &build("four"));
    let text = shown(&house, &["deploy", "--yes"]);
    assert!(text.contains("version 3 ends"), "{text}");
    assert_eq!(count(&builds(&house, 60).await, "four"), 60);
}

#[tokio::test]
async fn a_canary_that_answers_5xx_is_taken_back_by_itself_and_stays_so() {
    let (house, component) = start("canary = { errors = \"10%\", least = 10 }");
    canary(&house, &component, "sick", 50);
    let (began, client) = (Instant::now(), Client::new());
    let (mut failed, mut caller) = (0, 0);
    while house.api("/v1/deployments")["canaries"] != json!({}) {
        assert!(began.elapsed() < PATIENCE);
        for _ in 0..10 {
            let (status, build) = served(&client, &house, "/health", caller).await;
            assert_eq!(status == 503, build == "sick", "the others are served as ever");
            failed += u32::from(status == 503);
            caller += 1;
        }
    }
    assert!((10..40).contains(&failed), "{failed} callers met it");
    house.wait_for_log("the canary is taken back");
    house.wait_for_log("canary.errors");
    let house = House::start_again(house.crash(), &[], &[]);
    assert_eq!(count(&builds(&house, 60).await, "one"), 60);
    let of = house.api("/v1/plugins/guest")["rolled_back"].clone();
    assert_eq!(of["number"], 2);
    assert!(of["reason"].as_str().unwrap().contains("errors in its last"), "{of}");
    let text = shown(&house, &["plugins"]);
    assert!(text.contains("version 2, was taken back by itself"), "{text}");
    let text = shown(&house, &["versions", "guest"]);
    assert!(text.contains("taken back"), "{text}");
}

#[tokio::test]
async fn traps_of_a_canary_count_and_those_of_the_version_beside_it_do_not() {
    let table = |build: u64| {
        SERVER.to_owned()
            + &plugin(
                "guest",
                &guest("hostile"),
                &format!(
                    "routes = [\"/*\"]\nconfig = {{ build = \"{build}\" }}\nbreaker = {{ failures = 0 }}"
                ),
            )
    };
    let (house, client) = (House::start(&table(1)), Client::new());
    for caller in 0..40 {
        assert_eq!(served(&client, &house, "/trap", caller).await.0, 500);
    }
    house.configure(&table(2));
    let (status, answer) = house.post("/v1/deployments", &json!({"canary": 99}));
    assert_eq!(status, 200, "{answer}");
    // With one answer in a hundred below the bound it goes on.
    for caller in 0..60 {
        assert_eq!(served(&client, &house, "/count", caller).await.0, 200);
    }
    assert_eq!(house.api("/v1/deployments")["canaries"]["guest"]["version"], 2);
    let began = Instant::now();
    let mut caller = 0;
    while house.api("/v1/deployments")["canaries"] != json!({}) {
        assert!(began.elapsed() < PATIENCE);
        assert_eq!(served(&client, &house, "/trap", caller).await.0, 500);
        caller += 1;
    }
    assert!(caller < 40, "{caller} traps");
    house.wait_for_log("traps in its last");
    assert_eq!(house.api("/v1/deployments")["plugins"], json!({"guest": 1}));
}

#[tokio::test]
async fn a_verified_caller_gets_one_version_wherever_they_come_from() {
    let lines = "auth = \"required\"\n[auth]\nplugin = \"verifier\"\n".to_owned()
        + &plugin("verifier", &guest("verifier"), "instances = { reuse = 1000 }");
    let (house, component) = start(&lines);
    canary(&house, &component, "two", 50);
    let mut of_all = Vec::new();
    for caller in 0..40 {
        let bearer = format!("Bearer good c{caller}");
        let mut of_one = Vec::new();
        for address in ["10.1.1.1", "10.2.2.2", "2001:db8::1"] {
            let fields = [("authorization", bearer.as_str()), ("x-forwarded-for", address)];
            let answer = ask(&house, "/", &fields).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            of_one.push(answer.header("x-version").to_owned());
        }
        of_one.dedup();
        assert_eq!(of_one.len(), 1, "c{caller}: {of_one:?}");
        of_all.extend(of_one);
    }
    of_all.sort();
    of_all.dedup();
    assert_eq!(of_all.len(), 2, "{of_all:?}");
    // Whoever may not pass is refused all the same.
    assert_eq!(ask(&house, "/", &[]).await.status, 401);
}

#[tokio::test]
async fn a_call_of_another_plugin_is_served_as_whoever_it_is_made_for() {
    let lines = "[auth]\nplugin = \"verifier\"\n".to_owned()
        + &plugin("verifier", &guest("verifier"), "instances = { reuse = 1000 }")
        + &plugin(
            "out",
            &guest("fetch"),
            "routes = [\"/out\"]\nauth = \"optional\"\ncalls = [\"guest\"]",
        );
    let (house, component) = start(&lines);
    canary(&house, &component, "two", 50);
    let through = async |caller: &str| {
        let bearer = format!("Bearer {caller}");
        let fields = [
            ("authorization", bearer.as_str()),
            ("x-url", "http://guest.internal/"),
            ("x-send", ""),
        ];
        let answer = ask(&house, "/out", &fields).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.trim_end().split('-').next().unwrap_or_default().to_owned()
    };
    let mut of_all = Vec::new();
    for caller in 0..30 {
        let caller = format!("good c{caller}");
        let first = through(&caller).await;
        assert_eq!(through(&caller).await, first);
        of_all.push(first);
    }
    assert!(count(&of_all, "one") > 3 && count(&of_all, "two") > 3, "{of_all:?}");
    // Nobody is known: it is the plugin that calls.
    let first = through("wrong").await;
    assert_eq!(through("wrong either").await, first);
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_canary_leaves_both_versions_or_the_one() {
    for (place, both) in [
        ("planned", false),
        ("compiled", false),
        ("ready", false),
        ("committed", true),
        ("switched", true),
        ("collected", true),
    ] {
        let (house, component) = start("");
        let house = House::start_again(house.crash(), &[], &[("GUESTHOUSE_FAULT", place)]);
        put(&component, &build("two"));
        let dead = house.try_post("/v1/deployments", &json!({"canary": 50}));
        assert!(dead.is_err(), "the house outlived `{place}`");
        let house = House::start_again(house.into_folder(), &[], &[]);
        let found = builds(&house, 40).await;
        assert_eq!(count(&found, "two") > 0, both, "after a crash at `{place}`");
        assert!(count(&found, "one") > 0);
        house.wait_for_files("components", if both { 2 } else { 1 });
        // And it goes on from there.
        canary(&house, &component, "two", 50);
        let (status, answer) = house.post("/v1/plugins/guest/promote", &json!({}));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(count(&builds(&house, 20).await, "two"), 20);
    }
}

#[tokio::test]
async fn what_counts_before_the_choice_can_t_be_a_canary() {
    let (house, component) = start("");
    put(&component, &build("two"));
    let guest =
        |lines: &str| format!("{SERVER}[plugins.guest]\ncomponent = \"guest.wasm\"\n{lines}\n");
    for (config, why) in [
        (guest("routes = [\"/other/*\"]"), "its routes change"),
        (guest("routes = [\"/*\"]\nrate = \"20/min\""), "`rate` changes"),
        (
            guest("routes = [\"/*\"]")
                + "[plugins.more]\ncomponent = \"guest.wasm\"\nroutes = [\"/more\"]\n",
            "no other version",
        ),
        (SERVER.to_owned(), "no other version"),
    ] {
        house.configure(&config);
        let (status, answer) = house.post("/v1/deployments", &json!({"canary": 10}));
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("canary")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{why}: {answer}");
    }
    house.configure(&guest("routes = [\"/*\"]"));
    for share in [0, 100] {
        let (status, answer) = house.post("/v1/deployments", &json!({"canary": share}));
        assert!(status == 422 && answer.to_string().contains("1% to 99%"), "{answer}");
    }
    assert_eq!(house.api("/v1/deployments")["sequence"], 1);
    let (code, text) = house.run(&["deploy", "--canary", "ten"]);
    assert!(code != 0 && text.contains("as \"10%\""), "{text}");
    // New grants need their consent for a few callers as for all.
    house.configure(&guest("routes = [\"/*\"]\nkv = [\"notes\"]"));
    let (status, answer) = house.post("/v1/deployments", &json!({"canary": 10}));
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("new-grants")), "{answer}");
}
