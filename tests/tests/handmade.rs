//! Components that no compiler would make: what they do before, and instead of, answering.

use guesthouse_tests::handmade::{HANDLE, component};
use guesthouse_tests::{House, guest, plugin};
use reqwest::StatusCode;

const LIMITS: &str = "routes = [\"http://odd/*\"]\nbreaker = { failures = 0 }\n\
                      limits = { cpu = \"200ms\", wall = \"60s\", memory = \"16MiB\" }";

struct Case {
    name: &'static str,
    core: String,
    status: u16,
    log: &'static str,
}

fn cases() -> Vec<Case> {
    let handler = format!("(func (export \"{HANDLE}\") (param i32 i32)");
    let case = |name, core: String, status, log| Case { name, core, status, log };
    vec![
        case(
            "a start function that loops",
            format!("(module (func $f (loop br 0)) {handler}) (start $f))"),
            504,
            "limits.cpu",
        ),
        case(
            "a start function that traps",
            format!("(module (func $f unreachable) {handler}) (start $f))"),
            500,
            "the plugin trapped",
        ),
        case(
            "a start function that fills memory again and again",
            format!(
                "(module (memory 128) (func $f (loop (memory.fill (i32.const 0) (i32.const 1) \
                 (i32.const 8388608)) br 0)) {handler}) (start $f))"
            ),
            504,
            "limits.cpu",
        ),
        case(
            "a table that grows without end",
            format!(
                "(module (table 1 funcref) {handler} (loop (if (i32.eq (table.grow (ref.null func) \
                 (i32.const 1000)) (i32.const -1)) (then unreachable)) br 0)))"
            ),
            500,
            "the plugin trapped",
        ),
        case(
            "more memory at the start than it may have",
            format!("(module (memory 4096) {handler}))"),
            500,
            "limits.memory",
        ),
        case(
            "recursion without end",
            format!("(module (func $f (call $f)) {handler} (call $f)))"),
            500,
            "call stack exhausted",
        ),
        case("a return without an answer", format!("(module {handler}))"), 500, "without giving"),
    ]
}

#[tokio::test]
async fn a_stack_that_a_request_uses_up_is_answered_as_its_plugin_says_and_opens_no_breaker() {
    let handler = format!("(func (export \"{HANDLE}\") (param i32 i32)");
    let folder = tempfile::tempdir().unwrap();
    let deep = format!("(module (func $f (call $f)) {handler} (call $f)))");
    let deep = component(folder.path(), "deep", &deep);
    let broken = component(folder.path(), "broken", &format!("(module {handler} unreachable))"));
    let rest = |host: &str| {
        format!(
            "routes = [\"http://{host}/*\"]\nstack_overflow = 422\n\
             breaker = {{ failures = 1, backoff = \"1h\" }}"
        )
    };
    let house = House::start(
        &(plugin("deep", &deep, &rest("deep")) + &plugin("broken", &broken, &rest("broken"))),
    );
    let ask = async |host: &str| {
        let request = reqwest::Client::new().get(&house.url).header("host", host);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    for _ in 0..3 {
        let (status, text) = ask("deep").await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        assert!(text.contains("nested too deeply"), "{text}");
    }
    house.wait_for_log("stack_overflow = 422");
    let version = &house.api("/v1/plugins/deep")["version"];
    assert_eq!(version["failures"], 3, "the operator sees them: {version}");
    assert_eq!(ask("broken").await.0, 500, "another trap is none of that");
    assert_eq!(ask("broken").await.0, 503);
}

#[tokio::test]
async fn each_has_its_answer_and_the_neighbour_is_answered_beside_eight_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for Case { name, core, status, log } in cases() {
        let odd = component(folder.path(), "odd", &core);
        let house = House::start(
            &(plugin("odd", &odd, LIMITS)
                + &plugin("neighbour", &guest("wit_bindgen"), "routes = [\"http://neighbour/*\"]")),
        );
        let ask = |host: &'static str| {
            let request = reqwest::Client::new().get(&house.url).header("host", host);
            async move { request.send().await.unwrap().status() }
        };
        let odd: Vec<_> = (0..8).map(|_| tokio::spawn(ask("odd"))).collect();
        for _ in 0..10 {
            assert_eq!(ask("neighbour").await, StatusCode::OK, "{name}");
        }
        for answer in odd {
            assert_eq!(answer.await.unwrap(), status, "{name}:\n{}", house.log());
        }
        house.wait_for_log(log);
        assert_eq!(house.api("/v1/plugins/odd")["version"]["failures"], 8, "{name}");
    }
}
