//! Who is calling: the host's side, with a verifier whose policy anyone can see through.

use guesthouse_tests::asking::{Answer, ask};
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::time::Instant;

/// A house with the test's verifier, and the plugin `caller` with these lines.
fn config(server: &str, verifier: &str, caller: &str) -> String {
    format!("[server]\n{server}\n[auth]\nplugin = \"verifier\"\n")
        + &plugin("verifier", &guest("verifier"), verifier)
        + &plugin("caller", &guest("caller"), caller)
}

const VERIFIER: &str = "instances = { reuse = 1000 }\nlimits = { cpu = \"200ms\" }";

fn house(caller: &str) -> House {
    let caller = format!("routes = [\"/*\"]\ninstances = {{ reuse = 1000 }}\n{caller}");
    House::start(&config("", VERIFIER, &caller))
}

async fn with(house: &House, words: &str) -> Answer {
    ask(house, "/whoami", &[("authorization", &format!("Bearer {words}"))]).await
}

fn asked(house: &House) -> usize {
    house.log().matches("asked").count()
}

/// Waits until the log says that the verifier was asked so many times: lines come when they come.
fn until_asked(house: &House, times: usize) {
    let began = Instant::now();
    while asked(house) < times {
        assert!(began.elapsed() < PATIENCE, "asked {} times, not {times}", asked(house));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(asked(house), times);
}

#[tokio::test]
async fn a_route_that_requires_a_caller_has_one_or_answers_401() {
    let house = house("auth = \"required\"");
    let nothing = ask(&house, "/whoami", &[]).await;
    assert_eq!(nothing.status, 401);
    assert_eq!(nothing.header("www-authenticate"), "Bearer realm=\"guesthouse\"");
    assert_eq!(nothing.header("cache-control"), "no-store");
    assert_eq!(nothing.text.trim(), r#"{"error":"unauthorized","reason":"token-missing"}"#);
    assert_eq!(asked(&house), 0, "who shows nothing is not asked about");

    let bad = with(&house, "wrong anna").await;
    assert_eq!(bad.status, 401);
    assert!(bad.header("www-authenticate").contains("error=\"invalid_token\""));
    assert!(bad.text.contains("token-invalid"), "{}", bad.text);

    let good = with(&house, "good anna").await;
    assert_eq!((good.status, good.text.as_str()), (200, "anna"));
    let claims = ask(&house, "/claims", &[("authorization", "Bearer good anna")]).await;
    assert_eq!(claims.text, r#"anna Some("tests") None None {"sub":"anna"}"#);
}

#[tokio::test]
async fn a_browser_s_preflight_reaches_the_plugin_without_a_caller_where_the_operator_says_so() {
    let open =
        house("auth = \"required\"\npreflight = true\nrate = \"6/min\"\nlimits = { body = 10 }");
    let closed = house("auth = \"required\"");
    let ask = |house: &House, method: &str, fields: &[(&str, &str)]| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new().request(method, format!("{}/cors", house.url));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        async move { request.send().await.unwrap() }
    };
    let real = [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
    let answer = ask(&open, "OPTIONS", &real).await;
    assert_eq!(answer.status(), 200);
    let fields = answer.headers().clone();
    // The plugin was told that there is nobody, and what it says beyond its policy stays here.
    assert_eq!(fields["access-control-allow-headers"], "nobody");
    assert!(fields.contains_key("ratelimit"), "{fields:?}");
    for name in ["set-cookie", "content-type"] {
        assert!(!fields.contains_key(name), "{fields:?}");
    }
    assert_eq!(answer.text().await.unwrap(), "");
    assert_eq!(ask(&closed, "OPTIONS", &real).await.status(), 401);
    assert_eq!(asked(&open) + asked(&closed), 0);

    // What is no preflight, or shows something, is asked who it is.
    let wrong = [real[0], real[1], ("authorization", "Bearer wrong anna")];
    for (method, fields) in
        [("GET", &real[..]), ("OPTIONS", &real[..1]), ("OPTIONS", &real[1..]), ("OPTIONS", &wrong)]
    {
        let refused = ask(&open, method, fields).await;
        assert_eq!(refused.status(), 401, "{method} {fields:?}");
        // A page learns why, unless it sent cookies; elsewhere it does not.
        assert_eq!(refused.headers()["access-control-allow-origin"], "*");
        assert!(!refused.headers().contains_key("access-control-allow-credentials"));
    }
    assert!(
        !ask(&closed, "GET", &real).await.headers().contains_key("access-control-allow-origin")
    );
    let good = [real[0], real[1], ("authorization", "Bearer good anna")];
    let answer = ask(&open, "OPTIONS", &good).await;
    assert_eq!(answer.headers()["access-control-allow-headers"], "anna");
    assert!(answer.headers().contains_key("set-cookie"), "it is a request like any other");
    // So it does of a limit, which the house knows before it asks who calls.
    let long = reqwest::Client::new().post(format!("{}/cors", open.url)).body("x".repeat(11));
    let refused = long.bearer_auth("good anna").send().await.unwrap();
    assert_eq!(refused.status(), 413);
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
    // The rate of the address holds for those who ask first, too.
    let mut last = ask(&open, "OPTIONS", &real).await;
    for _ in 0..6 {
        last = ask(&open, "OPTIONS", &real).await;
    }
    assert_eq!(last.status(), 429);
    let read = last.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["retry-after", "ratelimit", "x-request-id"] {
        assert!(read.split(", ").any(|found| found == name), "{read}");
        assert!(last.headers().contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn an_optional_caller_is_nobody_unless_verified_and_never_the_one_before() {
    let house = house("auth = \"optional\"");
    // One after the other, in one instance.
    for (words, who) in [
        ("good anna", "anna"),
        ("wrong anna", "nobody"),
        ("good berta", "berta"),
        ("", "nobody"),
        ("good anna", "anna"),
    ] {
        assert_eq!(with(&house, words).await.text, who, "{words}");
    }
    assert_eq!(ask(&house, "/whoami", &[]).await.text, "nobody");
}

#[tokio::test]
async fn a_plugin_that_does_not_ask_for_callers_has_none_whatever_they_show() {
    let house = house("");
    assert_eq!(with(&house, "good anna").await.text, "nobody");
    assert_eq!(asked(&house), 0);
}

#[tokio::test]
async fn whatever_happens_to_the_verifier_it_is_not_a_yes() {
    for mode in ["required", "optional"] {
        let house = house(&format!("auth = \"{mode}\""));
        let forbidden = with(&house, "forbidden anna").await;
        assert_eq!(forbidden.status, 403);
        assert!(forbidden.text.contains("not-a-member"));
        let down = with(&house, "down anna").await;
        assert_eq!((down.status, down.header("retry-after")), (503, "1"));
        for (words, status) in
            [("trap x", 500), ("nameless x", 500), ("claimless x", 500), ("spin x", 504)]
        {
            let answer = with(&house, words).await;
            assert_eq!(answer.status, status, "{words}: {}", answer.text);
            assert!(!answer.text.contains("nobody"), "{words}: the plugin was asked");
        }
        house.wait_for_log("limits.cpu");
        // And the next one is served as if nothing had been.
        assert_eq!(with(&house, "good anna").await.text, "anna");
    }
}

#[tokio::test]
async fn a_reason_that_is_no_word_does_not_reach_the_client() {
    let house = house("auth = \"required\"");
    let rude = with(&house, "rude x").await;
    assert_eq!(rude.status, 401);
    assert!(rude.text.contains("\"token-invalid\""), "{}", rude.text);
    assert!(!rude.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn an_answer_is_kept_for_the_same_credentials_and_for_no_others() {
    let house = house("auth = \"optional\"");
    for _ in 0..5 {
        assert_eq!(with(&house, "good anna").await.text, "anna");
    }
    until_asked(&house, 1);
    assert_eq!(with(&house, "good berta").await.text, "berta");
    until_asked(&house, 2);
    // A no is not kept.
    for _ in 0..2 {
        assert_eq!(with(&house, "wrong anna").await.text, "nobody");
    }
    until_asked(&house, 4);
}

#[tokio::test]
async fn an_answer_is_not_kept_beyond_the_expiry_of_the_proof() {
    let house = house("auth = \"required\"");
    let began = Instant::now();
    while asked(&house) < 2 {
        assert_eq!(with(&house, "brief 300").await.text, "brief");
        assert!(began.elapsed() < PATIENCE, "it is kept for ever");
    }
}

#[tokio::test]
async fn a_cookie_is_shown_to_the_verifier_and_other_cookies_are_not() {
    let house = house("auth = \"optional\"");
    let cookie = ask(&house, "/whoami", &[("cookie", "theme=dark; __session=anna")]).await;
    assert_eq!(cookie.text, "anna");
    until_asked(&house, 1);
    assert_eq!(ask(&house, "/whoami", &[("cookie", "theme=dark")]).await.text, "nobody");
    until_asked(&house, 1);
}

#[tokio::test]
async fn fields_by_which_a_client_could_pass_for_someone_never_reach_a_plugin() {
    for lines in ["", "auth = \"optional\""] {
        let house = house(lines);
        for name in [
            "x-guesthouse-subject",
            "guesthouse-subject",
            "x-forwarded-user",
            "X_Forwarded_User",
            "remote-user",
            "x-auth-request-email",
            "x-clerk-auth-status",
        ] {
            let path = format!("/header?{}", name.to_lowercase());
            assert_eq!(ask(&house, &path, &[(name, "root")]).await.text, "", "{name}");
        }
        assert_eq!(ask(&house, "/header?x-other", &[("x-other", "stays")]).await.text, "stays");
    }
}

#[tokio::test]
async fn what_a_verified_caller_reads_is_not_served_to_another() {
    let house = house("auth = \"optional\"\ncache = true");
    let anna = [("cookie", "__session=anna")];
    assert_eq!(ask(&house, "/cached", &anna).await.text, "anna");
    assert_eq!(ask(&house, "/cached", &[]).await.text, "nobody");
    assert_eq!(ask(&house, "/cached", &anna).await.text, "anna");
    let again = ask(&house, "/cached", &[]).await;
    assert!(again.header("cache-status").contains("hit"), "{}", again.header("cache-status"));
    assert_eq!(ask(&house, "/cached", &[("cookie", "__session=berta")]).await.text, "berta");
}

#[tokio::test]
async fn many_callers_in_one_instance_of_wasi_http_0_3_are_not_taken_for_each_other() {
    let lines = "routes = [\"/*\"]\nauth = \"optional\"\n\
                 instances = { reuse = 1000, concurrent = 32 }";
    let house = House::start(
        &("[server]\nthreads = 1\n[auth]\nplugin = \"verifier\"\n".to_owned()
            + &plugin("verifier", &guest("verifier"), VERIFIER)
            + &plugin("caller", &guest("caller3"), lines)),
    );
    let client = reqwest::Client::new();
    let requests = (0..40).map(|number| {
        let request = client.get(format!("{}/", house.url));
        let (request, who) = if number % 4 == 0 {
            (request, "nobody".to_owned())
        } else {
            let who = format!("caller-{number}");
            (request.bearer_auth(format!("good {who}")), who)
        };
        async move {
            let text = request.send().await.unwrap().text().await.unwrap();
            assert_eq!(text, format!("{who} {who} {who}"));
        }
    });
    futures::future::join_all(requests).await;
    let plugins = house.api("/v1/plugins");
    let caller = plugins["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["name"] == "caller")
        .unwrap();
    let instances = caller["instances_made"].as_u64().or(caller["instances"].as_u64());
    assert!(instances.is_none_or(|made| made < 40), "each had an instance of its own: {caller}");
}

#[test]
fn who_has_no_proof_is_refused_before_the_body_is_sent() {
    let house = house("auth = \"required\"");
    let answer = house.raw(
        b"POST /whoami HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn a_verifier_that_is_none_is_refused_at_the_start() {
    let config = "[auth]\nplugin = \"caller\"\n".to_owned()
        + &plugin("caller", &guest("caller"), "routes = [\"/*\"]\nauth = \"required\"");
    let error = House::refuses(&config);
    assert!(error.contains("does not export guesthouse:auth/verifier"), "{error}");
}

#[tokio::test]
async fn a_swap_of_the_verifier_swaps_the_policy_at_once() {
    let lines = "routes = [\"/*\"]\nauth = \"required\"\ninstances = { reuse = 1000 }";
    let house = House::start(&config("", VERIFIER, lines));
    assert_eq!(with(&house, "good anna").await.text, "anna");
    assert_eq!(with(&house, "better anna").await.status, 401);
    let stricter = format!("{VERIFIER}\nconfig = {{ accepts = \"better\" }}");
    house.configure(&config("", &stricter, lines));
    let (code, text) = house.run(&["deploy", "--yes"]);
    assert_eq!(code, 0, "{text}");
    // What the former version has said, and what was kept of it, is of no more worth.
    assert_eq!(with(&house, "good anna").await.status, 401);
    assert_eq!(with(&house, "better anna").await.text, "anna");
    let (code, text) = house.run(&["rollback", "verifier", "1"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(with(&house, "better anna").await.status, 401);
    assert_eq!(with(&house, "good anna").await.text, "anna");
}
