//! The auth plugin through the real binary: honest tokens, forged ones, and the development issuer.

use guesthouse_tests::{House, clients, guest, house_folder, plugin};
use serde_json::Value;
use wasmparser::{Validator, WasmFeatures};

/// A house whose auth plugin has these settings; every route of `caller` requires a caller.
fn config(settings: &[(&str, &str)]) -> String {
    let settings: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    let rest = format!(
        "routes = [\"/api/logged_in\", \"/api/logged_in/\"]\nkv = [\"default\"]\n\
         instances = {{ reuse = 10000 }}\nconfig = {{ {} }}",
        settings.join(", ")
    );
    let caller = "routes = [\"/*\"]\nauth = \"required\"\ninstances = { reuse = 10000 }";
    // A head of a megabyte, so that a token of one reaches the verifier.
    "[server]\nmax_head = \"1MiB\"\naccess_log = false\n[auth]\nplugin = \"auth\"\n".to_owned()
        + &plugin("auth", &house_folder().join("plugins/auth.wasm"), &rest)
        + &plugin("caller", &guest("caller"), caller)
}

fn client() -> reqwest::Client {
    reqwest::Client::new()
}

/// The status, and the reason if it is a refusal.
async fn try_token(house: &House, path: &str, token: &str) -> (u16, String) {
    let request = client().get(format!("{}{path}", house.url)).bearer_auth(token);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    if status == 401 {
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer realm="), "{challenge}");
    }
    let text = answer.text().await.unwrap();
    let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let reason = json["reason"].as_str().unwrap_or_default().to_owned();
    (status, reason)
}

fn script(name: &str) -> Option<Value> {
    let output = clients::node(name, &[])?;
    Some(serde_json::from_str(&clients::text_of(&output)).unwrap())
}

#[tokio::test]
async fn every_forged_token_is_refused_with_its_reason_and_every_honest_one_let_in() {
    let Some(table) = script("attacks.mjs") else { return };
    let house = House::start(&config(&[
        ("jwt_key", table["pem"].as_str().unwrap()),
        ("jwt_key_id", "k1"),
        ("authorized_parties", "https://app.example"),
        ("audience", "api"),
        ("issuer", "https://issuer.example"),
    ]));
    let bad = table["bad"].as_object().unwrap();
    assert!(bad.len() >= 60, "{}", bad.len());
    let mut wrong = Vec::new();
    for (name, case) in bad {
        let (token, reason) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        for path in ["/whoami", "/api/logged_in"] {
            let found = try_token(&house, path, token).await;
            if found != (401, reason.to_owned()) {
                wrong.push(format!("{name} at {path}: {found:?}, not {reason}"));
            }
        }
    }
    for (name, token) in table["fine"].as_object().unwrap() {
        for path in ["/whoami", "/api/logged_in", "/api/logged_in/"] {
            let found = try_token(&house, path, token.as_str().unwrap()).await;
            if found.0 != 200 {
                wrong.push(format!("{name} at {path}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Whoever was refused left nothing behind that lets anyone in.
    let good = table["fine"]["as it should be"].as_str().unwrap();
    let whoami = client().get(format!("{}/whoami", house.url)).bearer_auth(good);
    assert_eq!(whoami.send().await.unwrap().text().await.unwrap(), "user_1");
    let cookie = client()
        .get(format!("{}/api/logged_in", house.url))
        .header("cookie", format!("a=b; __session={good}"));
    let claims: Value = cookie.send().await.unwrap().json().await.unwrap();
    assert_eq!(claims["sid"], "sess_1");
}

#[tokio::test]
async fn each_algorithm_verifies_with_its_key_and_with_no_other() {
    let Some(table) = script("attacks.mjs") else { return };
    for (name, pem) in table["keys"].as_object().unwrap() {
        let house = House::start(&config(&[
            ("jwt_key", pem.as_str().unwrap()),
            ("algorithms", "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA"),
        ]));
        for case in table["signed"].as_array().unwrap() {
            let text = |at: usize| case[at].as_str().unwrap();
            let (status, reason) = try_token(&house, "/whoami", text(2)).await;
            let expected = if text(0) == name { 200 } else { 401 };
            assert_eq!(status, expected, "{} with {name}: {reason}", text(1));
            // The claims of one token with the signature of another.
            let (head, _) = text(3).rsplit_once('.').unwrap();
            let (_, signature) = text(2).rsplit_once('.').unwrap();
            let mixed = try_token(&house, "/whoami", &format!("{head}.{signature}")).await;
            assert_eq!(mixed, (401, "token-invalid-signature".to_owned()), "{}", text(1));
        }
    }
}

#[tokio::test]
async fn clerk_s_own_sdk_and_this_plugin_agree_on_the_same_200_tokens() {
    let Some(table) = script("clerk.mjs") else { return };
    let house = House::start(&config(&[
        ("jwt_key", table["pem"].as_str().unwrap()),
        ("authorized_parties", "https://app.example https://www.example"),
        ("audience", "api"),
    ]));
    let cases = table["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 200);
    let mut differ = Vec::new();
    let mut let_in = 0;
    for case in cases {
        let (status, reason) =
            try_token(&house, "/api/logged_in", case["token"].as_str().unwrap()).await;
        let theirs = case["reason"].as_str();
        let_in += usize::from(theirs.is_none());
        let same = match theirs {
            None => status == 200,
            // Of two faults either may be named; the two look in another order.
            Some(theirs) => status == 401 && (reason == theirs || case["single"] != true),
        };
        if !same {
            differ.push(format!("Clerk: {theirs:?}, here: {status} {reason}: {case}"));
        }
    }
    assert!((50..=150).contains(&let_in), "{let_in} of 200 are honest");
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

#[tokio::test]
async fn a_development_token_is_accepted_in_development_and_never_in_production() {
    let house = House::start(&config(&[]));
    let token = |house: &House, arguments: &[&str]| {
        let mut all = vec!["auth", "token"];
        all.extend(arguments);
        let (code, text) = house.run(&all);
        assert_eq!(code, 0, "{text}");
        text.trim().to_owned()
    };
    let text = token(&house, &["--sub", "demo-user", "--claim", "role=admin", "--claim", "n=3"]);
    let answer = client()
        .get(format!("{}/api/logged_in", house.url))
        .bearer_auth(&text)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "private, no-store");
    let claims: Value = answer.json().await.unwrap();
    assert_eq!((claims["sub"].as_str(), &claims["n"]), (Some("demo-user"), &Value::from(3)));
    assert_eq!(claims["role"], "admin");
    assert_eq!(try_token(&house, "/whoami", &text).await.0, 200);
    // Its key signs for its own issuer alone.
    let other = token(&house, &["--claim", "iss=https://clerk.example"]);
    assert_eq!(try_token(&house, "/", &other).await, (401, "token-invalid-issuer".to_owned()));
    let old = token(&house, &["--claim", "exp=1"]);
    assert_eq!(try_token(&house, "/", &old).await, (401, "token-expired".to_owned()));
    let nothing = client().get(format!("{}/api/logged_in", house.url)).send().await.unwrap();
    assert_eq!(nothing.status(), 401);
    assert_eq!(nothing.headers()["www-authenticate"], "Bearer realm=\"guesthouse\"");

    // The same data, and so the same key.
    let house = house.restart_with(&[("GUESTHOUSE_ENV", "prod")]);
    let refused = try_token(&house, "/whoami", &text).await;
    assert_eq!(refused.0, 401, "{}", refused.1);
    // The house that knew the key said `iss`; this one doesn't know the name at all.
    assert_eq!(try_token(&house, "/api/logged_in", &text).await.0, 401);
    let house = house.restart_with(&[]);
    assert_eq!(try_token(&house, "/whoami", &text).await.0, 200);
}

#[tokio::test]
async fn clocks_may_differ_by_the_skew() {
    let house = House::start(&config(&[("clock_skew", "600")]));
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = since.as_secs();
    for (claim, expected) in [
        (format!("exp={}", now - 60), (200, "")),
        (format!("exp={}", now - 700), (401, "token-expired")),
        (format!("nbf={}", now + 60), (200, "")),
        (format!("nbf={}", now + 1200), (401, "token-not-active-yet")),
        (format!("iat={}", now + 60), (200, "")),
        (format!("iat={}", now + 1200), (401, "token-iat-in-the-future")),
    ] {
        let (code, text) = house.run(&["auth", "token", "--claim", &claim]);
        assert_eq!(code, 0, "{text}");
        let found = try_token(&house, "/", text.trim()).await;
        assert_eq!(found, (expected.0, expected.1.to_owned()), "{claim}");
    }
}

#[tokio::test]
async fn a_setting_that_is_wrong_lets_nobody_in_and_the_log_names_it() {
    let house = House::start(&config(&[("algorithms", "HS256")]));
    let (code, text) = house.run(&["auth", "token"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(try_token(&house, "/", text.trim()).await, (503, "misconfigured".to_owned()));
    house.wait_for_log("`algorithms` has `HS256`");
}

#[test]
fn the_component_multiplies_64_by_64_bits_in_one_instruction_and_no_other_asks_for_that() {
    let narrow = WasmFeatures::default().difference(WasmFeatures::WIDE_ARITHMETIC);
    let refusal = |name: &str, features: WasmFeatures| {
        let bytes = std::fs::read(house_folder().join("plugins").join(name)).unwrap();
        let result = Validator::new_with_features(features).validate_all(&bytes);
        result.err().map(|error| error.message().to_owned())
    };
    assert_eq!(refusal("auth.wasm", narrow.union(WasmFeatures::WIDE_ARITHMETIC)), None);
    let why = refusal("auth.wasm", narrow).expect("it would run on a host without them");
    assert!(why.contains("wide arithmetic"), "{why}");
    assert_eq!(refusal("openai.wasm", narrow), None);
}
