//! Data: kept, separate, and never lost.

use guesthouse_tests::{House, guest, plugin};

fn house() -> House {
    let probe = |name: &str, kv: &str| {
        plugin(
            name,
            &guest("probe"),
            &format!("routes = [\"http://{name}/*\"]\nkv = [{kv}]\ninstances = {{ reuse = 100 }}"),
        )
    };
    House::start(
        &(probe("a", "\"default\", \"shared\"")
            + &probe("b", "\"default\", \"shared\"")
            + &probe("c", "\"default\"")),
    )
}

async fn get(house: &House, plugin: &str, path: &str) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("{}{path}", house.url)).header("host", plugin);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_plugin_s_own_namespace_is_its_own_and_a_shared_one_is_shared() {
    let house = house();
    get(&house, "a", "/put/default/key?mine").await;
    get(&house, "a", "/put/shared/key?ours").await;
    assert_eq!(get(&house, "a", "/get/default/key").await, (200, "mine".into()));
    assert_eq!(get(&house, "b", "/get/default/key").await.0, 404);
    assert_eq!(get(&house, "b", "/get/shared/key").await, (200, "ours".into()));
    for namespace in ["shared", "~a", "nothing"] {
        let (status, text) = get(&house, "c", &format!("/get/{namespace}/key")).await;
        assert_eq!(status, 409, "{namespace}");
        assert!(text.contains("AccessDenied"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_when_many_compare_and_set_at_once() {
    let house = std::sync::Arc::new(house());
    let adders = (0..8).map(|_| {
        let house = house.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                assert_eq!(get(&house, "a", "/add/shared/count").await.0, 200);
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    assert_eq!(get(&house, "b", "/get/shared/count").await.1, "200");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let house = house();
    for number in 0..50 {
        assert_eq!(get(&house, "a", &format!("/put/default/k{number}?v{number}")).await.0, 200);
    }
    let house = house.crash_and_restart();
    for number in 0..50 {
        assert_eq!(
            get(&house, "a", &format!("/get/default/k{number}")).await.1,
            format!("v{number}")
        );
    }
}

#[tokio::test]
async fn an_atomic_write_changes_all_or_nothing() {
    let house = house();
    get(&house, "a", "/put/default/two?there").await;
    let (status, text) = get(&house, "a", "/both/default/?x").await;
    assert_eq!(status, 409);
    assert!(text.contains("Conflict(1)"), "{text}");
    assert_eq!(get(&house, "a", "/get/default/one").await.0, 404);
    get(&house, "a", "/delete/default/two").await;
    assert_eq!(get(&house, "a", "/both/default/?x").await.0, 204);
    assert_eq!(get(&house, "a", "/list/default/").await.1, "one,two");
}

#[tokio::test]
async fn keys_have_their_limits() {
    let house = house();
    let key = "k".repeat(512);
    assert_eq!(get(&house, "a", &format!("/put/default/{key}?v")).await.0, 200);
    let (status, text) = get(&house, "a", &format!("/put/default/{key}k?v")).await;
    assert_eq!(status, 409);
    assert!(text.contains("at most 512 bytes"), "{text}");
}

#[test]
fn the_operator_reads_and_writes_with_the_command_line() {
    let house = house();
    let kv = |arguments: &[&str]| house.run(&[&["kv"], arguments].concat());
    assert_eq!(kv(&["put", "shared", "a b/ü%", "hello", "--if-absent"]).0, 0);
    assert_eq!(kv(&["put", "shared", "a b/ü%", "again", "--if-absent"]).0, 3);
    assert_eq!(kv(&["get", "shared", "a b/ü%"]), (0, "hello".into()));
    assert_eq!(kv(&["get", "shared", "nothing"]).0, 3);
    assert_eq!(kv(&["list", "shared"]), (0, "a b/ü%\n".into()));
    let file = house.data().join("export");
    let file = file.to_str().unwrap();
    assert_eq!(kv(&["export", "shared", "-o", file]).0, 0);
    assert_eq!(kv(&["delete", "shared", "a b/ü%"]).0, 0);
    assert_eq!(kv(&["list", "shared"]), (0, String::new()));
    assert_eq!(kv(&["import", "shared", file]).0, 0);
    assert_eq!(kv(&["get", "shared", "a b/ü%"]), (0, "hello".into()));
}

#[tokio::test]
async fn the_admin_door_needs_the_token_and_no_browser() {
    let house = house();
    let client = reqwest::Client::new();
    let url = format!("{}/v1/plugins", house.admin);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(client.get(&url).bearer_auth("x".repeat(64)).send().await.unwrap().status(), 401);
    let right = || client.get(&url).bearer_auth(house.token());
    assert_eq!(right().send().await.unwrap().status(), 200);
    assert_eq!(right().header("origin", "http://evil").send().await.unwrap().status(), 403);
    assert_eq!(right().header("host", "evil.example").send().await.unwrap().status(), 403);
}

#[test]
fn a_reader_that_has_seen_enough_of_a_list_is_no_error() {
    let house = house();
    assert_eq!(house.run(&["kv", "put", "shared", "a", "1"]).0, 0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(guesthouse_tests::house_folder().join("guesthouse"))
        .args(["kv", "list", "shared"])
        .env("GUESTHOUSE_ADMIN", &house.admin)
        .env("GUESTHOUSE_DATA", house.data())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}
