//! What a caller may take: rates and budgets, through the real binary.

use guesthouse_tests::asking::ask;
use guesthouse_tests::{House, guest, plugin};

fn config(server: &str, caller: &str) -> String {
    format!("[server]\n{server}\n[auth]\nplugin = \"verifier\"\n")
        + &plugin("verifier", &guest("verifier"), "instances = { reuse = 1000 }")
        + &plugin("caller", &guest("caller"), &format!("routes = [\"/*\"]\n{caller}"))
}

const ANNA: [(&str, &str); 1] = [("authorization", "Bearer good anna")];
const BERTA: [(&str, &str); 1] = [("authorization", "Bearer good berta")];

#[tokio::test]
async fn a_caller_over_the_rate_is_told_when_to_come_again_and_others_are_not_hurt() {
    let house = House::start(&config("", "auth = \"optional\"\nrate = \"3/day\""));
    for left in ["2", "1", "0"] {
        let answer = ask(&house, "/whoami", &ANNA).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "anna"));
        assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=3;w=86400");
        let start = format!("\"requests\";r={left};t=");
        assert!(answer.header("ratelimit").starts_with(&start), "{}", answer.header("ratelimit"));
    }
    let refused = ask(&house, "/whoami", &ANNA).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.text.trim(), r#"{"error":"too-many","reason":"requests"}"#);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=28_800).contains(&seconds), "{seconds}");
    assert!(refused.header("ratelimit").contains(";r=0;"));
    assert_eq!(ask(&house, "/whoami", &BERTA).await.status, 200);
    assert_eq!(ask(&house, "/whoami", &[]).await.status, 200);
}

#[tokio::test]
async fn guessing_has_its_rate_too() {
    let house = House::start(&config("", "auth = \"required\"\nrate = \"3/day\""));
    for guess in ["Bearer wrong a", "Bearer wrong b", "Bearer wrong c"] {
        assert_eq!(ask(&house, "/", &[("authorization", guess)]).await.status, 401);
    }
    assert_eq!(ask(&house, "/", &[("authorization", "Bearer wrong d")]).await.status, 429);
    assert_eq!(
        ask(&house, "/", &ANNA).await.status,
        200,
        "whoever is known has a rate of their own"
    );
}

#[tokio::test]
async fn without_a_verified_caller_the_address_counts_and_nobody_chooses_it() {
    let forwarded = |address| [("x-forwarded-for", address)];
    let house = House::start(&config("", "rate = \"2/day\""));
    assert_eq!(ask(&house, "/", &forwarded("1.1.1.1")).await.status, 200);
    assert_eq!(ask(&house, "/", &forwarded("2.2.2.2")).await.status, 200);
    assert_eq!(ask(&house, "/", &forwarded("3.3.3.3")).await.status, 429);
    drop(house);
    let house = House::start(&config("trusted_proxies = [\"127.0.0.0/8\"]", "rate = \"1/day\""));
    assert_eq!(ask(&house, "/", &forwarded("1.1.1.1")).await.status, 200);
    assert_eq!(ask(&house, "/", &forwarded("2.2.2.2")).await.status, 200);
    assert_eq!(ask(&house, "/", &forwarded("9.9.9.9, 1.1.1.1")).await.status, 429);
}

#[tokio::test]
async fn what_was_taken_is_remembered_when_the_house_opens_again() {
    let lines = "auth = \"optional\"\nrate = \"3/day\"\nbudget_tokens = \"100/day\"";
    let house = House::start(&config("", lines));
    assert_eq!(ask(&house, "/charge?70", &ANNA).await.text, "Some(30)");
    assert_eq!(ask(&house, "/whoami", &ANNA).await.status, 200);
    let house = house.restart();
    assert_eq!(ask(&house, "/remaining", &ANNA).await.text, "Some(30)");
    assert_eq!(ask(&house, "/whoami", &ANNA).await.status, 429);
    assert_eq!(ask(&house, "/remaining", &BERTA).await.text, "Some(100)");
}

#[tokio::test]
async fn a_crash_forgets_no_more_than_was_not_written_yet() {
    let config = config("", "auth = \"optional\"\nbudget_tokens = \"100/day\"");
    let house = House::start_with(&config, &[("GUESTHOUSE_LOG", "guesthouse=debug")]);
    assert_eq!(ask(&house, "/charge?70", &ANNA).await.text, "Some(30)");
    house.wait_for_log("accounts of callers are written");
    let house = house.crash_and_restart();
    assert_eq!(ask(&house, "/remaining", &ANNA).await.text, "Some(30)");
}

#[tokio::test]
async fn a_budget_is_reserved_settled_charged_and_exhausted() {
    let house = House::start(&config(
        "",
        "auth = \"required\"\nbudget_tokens = \"100/day\"\ninstances = { reuse = 100 }",
    ));
    let answer = ask(&house, "/reserve?60,10", &ANNA).await;
    assert_eq!(answer.text, "Some(40) Some(90)");
    assert_eq!(answer.header("ratelimit-policy"), "\"tokens\";q=100;w=86400");
    // Never settled: spent whole.
    assert_eq!(ask(&house, "/reserve?50", &ANNA).await.text, "Some(40) Some(40)");
    let refused = ask(&house, "/reserve?41", &ANNA).await;
    assert_eq!((refused.status, refused.text.as_str()), (429, "40"));
    assert_eq!(ask(&house, "/charge?1000", &ANNA).await.text, "Some(0)");
    let exhausted = ask(&house, "/whoami", &ANNA).await;
    assert_eq!(exhausted.status, 429);
    assert_eq!(exhausted.text.trim(), r#"{"error":"too-many","reason":"tokens"}"#);
    assert!(exhausted.header("retry-after").parse::<u64>().unwrap() <= 86_400);
    assert_eq!(ask(&house, "/whoami", &BERTA).await.text, "berta");
}

#[tokio::test]
async fn without_a_budget_nothing_is_limited() {
    let house = House::start(&config("", "auth = \"optional\""));
    assert_eq!(ask(&house, "/charge?70", &ANNA).await.text, "None");
    assert_eq!(ask(&house, "/reserve?70,10", &ANNA).await.text, "None None");
    assert_eq!(ask(&house, "/", &ANNA).await.header("ratelimit"), "");
}
