//! The auth plugin and an issuer that publishes its keys: the real fetch, over the real network of this machine.
//!
//! Owns what an issuer sees of the plan in `plugins/auth/src/keyring.rs`, and what clients are answered while it
//! rotates its keys or is down. Time passes by making the kept keys older in the key-value store, not by
//! waiting.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guesthouse_tests::asking::{Answer, ask};
use guesthouse_tests::upstream::{Body, Seen, Upstream, answer};
use guesthouse_tests::{House, clients, house_folder, plugin};
use hyper::Response;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The shortest time between two questions to an issuer, and how long keys are fresh, in seconds.
const FLOOR: u64 = 30;
const FRESH: u64 = 300;

/// Where the plugin keeps what it fetched: `default` is its own namespace.
const NAMESPACE: &str = "~auth";

/// A key of the issuer, or of someone who would like to be it.
struct Key {
    kid: String,
    pair: KeyPair,
}

impl Key {
    fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: KeyPair::generate_for(&PKCS_ED25519).unwrap() }
    }

    fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x })
    }

    /// A token of this subject.
    fn token(&self, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let claims = json!({ "sub": subject, "iat": now, "nbf": now, "exp": now + 3600 });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An issuer, and the keys that it publishes.
struct Issuer {
    upstream: Upstream,
    published: Arc<Mutex<Vec<Value>>>,
}

/// What an issuer says: its keys, at one path.
fn published(
    keys: &Arc<Mutex<Vec<Value>>>,
) -> impl Fn(Seen, hyper::body::Incoming) -> std::future::Ready<Response<Body>> + use<> {
    let keys = keys.clone();
    move |seen, _| {
        let found = seen.method == "GET" && seen.path() == "/v1/jwks";
        let set = json!({ "keys": *keys.lock().unwrap() }).to_string();
        let mut answer = answer(if found { 200 } else { 404 }, "application/json", set);
        if seen.version == hyper::Version::HTTP_11 {
            // No connection is left over on which an issuer that is down could still answer.
            answer.headers_mut().insert("connection", "close".parse().unwrap());
        }
        std::future::ready(answer)
    }
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let published_keys: Arc<Mutex<Vec<Value>>> = Arc::default();
        let upstream = Upstream::start(published(&published_keys)).await;
        let issuer = Self { upstream, published: published_keys };
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: &[&Key]) {
        *self.published.lock().unwrap() = keys.iter().map(|key| key.public()).collect();
    }

    fn uri(&self) -> String {
        format!("{}/v1/jwks", self.upstream.url())
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.upstream.seen().len()
    }
}

/// A house whose auth plugin has the keys of this issuer; the grant has these lines too.
fn config(uri: &str, grant: &str) -> String {
    config_with(uri, grant, "EdDSA")
}

/// The same with these algorithms.
fn config_with(uri: &str, grant: &str, algorithms: &str) -> String {
    let rest = format!(
        "routes = [\"/api/logged_in\"]\nkv = [\"default\"]\ninstances = {{ reuse = 10000 }}\n\
         fetch = [{{ url = \"{uri}\", allow_private = true{grant} }}]\n\
         config = {{ jwks_uri = \"{uri}\", algorithms = \"{algorithms}\" }}"
    );
    "[auth]\nplugin = \"auth\"\n".to_owned()
        + &plugin("auth", &house_folder().join("plugins/auth.wasm"), &rest)
}

async fn show(house: &House, token: &str) -> Answer {
    ask(house, "/api/logged_in", &[("authorization", &format!("Bearer {token}"))]).await
}

#[track_caller]
fn accepted(answer: &Answer, subject: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    let claims: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(claims["sub"], subject);
}

#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str) {
    let said: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.status, &said["reason"]), (status, &json!(reason)));
}

/// Makes what is kept of the issuer's keys older by so many seconds.
fn age(house: &House, uri: &str, seconds: u64) {
    let name = format!("jwks/{uri}");
    let (code, text) = house.run(&["kv", "get", NAMESPACE, &name]);
    assert_eq!(code, 0, "{text}");
    let mut kept: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(kept["asking"], false, "{text}");
    for time in ["fetched", "asked"] {
        kept[time] = json!(kept[time].as_u64().unwrap() - seconds * 1000);
    }
    let (code, text) = house.run(&["kv", "put", NAMESPACE, &name, &kept.to_string()]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test]
async fn published_keys_are_fetched_once_for_many_tokens_and_outlive_a_restart() {
    let key = Key::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let house = House::start(&config(&issuer.uri(), ""));
    assert_eq!(issuer.asked(), 0, "nobody has come yet");
    // Many at once, so that instances without keys meet.
    let crowd = (0..20).map(|at| {
        let (house, key) = (&house, &key);
        async move {
            let subject = format!("user_{at}");
            accepted(&show(house, &key.token(&subject)).await, &subject);
        }
    });
    futures::future::join_all(crowd).await;
    for _ in 0..20 {
        accepted(&show(&house, &key.token("anna")).await, "anna");
    }
    // The name of a published key is not its signature.
    let forged = Key::new("k1").token("anna");
    refused(&show(&house, &forged).await, 401, "token-invalid-signature");
    assert_eq!(issuer.asked(), 1);
    assert_eq!(issuer.upstream.last().header("authorization"), None);

    let house = house.restart();
    accepted(&show(&house, &key.token("anna")).await, "anna");
    assert_eq!(issuer.asked(), 1, "the keys are kept in the house's storage");
}

#[tokio::test]
async fn unknown_key_names_make_one_question_and_none_before_the_floor() {
    let key = Key::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let house = House::start(&config(&issuer.uri(), ""));
    accepted(&show(&house, &key.token("anna")).await, "anna");
    age(&house, &issuer.uri(), FLOOR);
    let began = Instant::now();
    let strange = |at: usize| {
        let house = &house;
        async move {
            let token = Key::new(&format!("strange-{at}")).token("anna");
            let answer = show(house, &token).await;
            refused(&answer, 401, "jwk-kid-mismatch");
            assert!(
                answer.header("www-authenticate").contains("jwk-kid-mismatch"),
                "{}",
                answer.header("www-authenticate")
            );
        }
    };
    strange(0).await;
    assert_eq!(issuer.asked(), 2);
    futures::future::join_all((1..20).map(strange)).await;
    accepted(&show(&house, &key.token("anna")).await, "anna");
    // One more only if this machine was so slow that the floor was over.
    let over = began.elapsed().as_secs() / FLOOR;
    assert!(issuer.asked() as u64 <= 2 + over, "asked {} times", issuer.asked());
}

#[tokio::test]
async fn a_new_key_is_found_by_its_unknown_name_and_a_withdrawn_one_is_refused() {
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    let issuer = Issuer::start(&[&old]).await;
    let house = House::start(&config(&issuer.uri(), ""));
    accepted(&show(&house, &old.token("anna")).await, "anna");

    issuer.publish(&[&old, &new]);
    age(&house, &issuer.uri(), FLOOR);
    accepted(&show(&house, &old.token("anna")).await, "anna");
    assert_eq!(issuer.asked(), 1, "whoever has a fresh key does not ask");
    accepted(&show(&house, &new.token("berta")).await, "berta");
    assert_eq!(issuer.asked(), 2);
    accepted(&show(&house, &old.token("anna")).await, "anna");

    issuer.publish(&[&new]);
    age(&house, &issuer.uri(), FRESH);
    accepted(&show(&house, &new.token("berta")).await, "berta");
    assert_eq!(issuer.asked(), 3);
    refused(&show(&house, &old.token("anna")).await, 401, "jwk-kid-mismatch");
}

#[tokio::test]
async fn fetched_keys_serve_while_the_issuer_is_down_until_their_grace_ends() {
    let key = Key::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let uri = issuer.uri();
    let house = House::start(&config(&uri, ""));
    accepted(&show(&house, &key.token("anna")).await, "anna");
    drop(issuer);

    accepted(&show(&house, &key.token("berta")).await, "berta");
    assert!(!house.log().contains("could not be fetched"), "fresh keys need no issuer");
    age(&house, &uri, FRESH);
    accepted(&show(&house, &key.token("anna")).await, "anna");
    house.wait_for_log("could not be fetched");
    // What nobody can say is not a no.
    let unknown = show(&house, &Key::new("k2").token("anna")).await;
    refused(&unknown, 503, "jwk-remote-failed-to-load");
    let house = house.restart();
    accepted(&show(&house, &key.token("anna")).await, "anna");

    age(&house, &uri, 3600);
    let late = show(&house, &key.token("anna")).await;
    refused(&late, 503, "jwk-remote-failed-to-load");
    assert_eq!(late.header("retry-after"), "1");
}

#[tokio::test]
async fn an_issuer_that_wants_a_secret_is_asked_with_the_one_of_the_grant() {
    let key = Key::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let grant = ", inject = { authorization = \"Bearer ${CLERK_SECRET_KEY}\" }";
    let secret = [("CLERK_SECRET_KEY", "sk_test_of_nobody")];
    let house = House::start_with(&config(&issuer.uri(), grant), &secret);
    accepted(&show(&house, &key.token("anna")).await, "anna");
    let seen = issuer.upstream.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v1/jwks"));
    // The house's secret, and nothing of what the client showed.
    let sent: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "authorization").collect();
    assert_eq!(sent, [&("authorization".to_owned(), "Bearer sk_test_of_nobody".to_owned())]);
    assert_eq!(issuer.asked(), 1);
    assert!(!house.log().contains("sk_test_of_nobody"));
}

#[tokio::test]
async fn keys_of_every_kind_come_from_a_set_that_is_fetched_over_tls_with_a_configured_root() {
    let Some(output) = clients::node("jwks.mjs", &[]) else { return };
    let table: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    let keys = Arc::new(Mutex::new(table["keys"].as_array().unwrap().clone()));
    let (issuer, certificate) = Upstream::start_tls("issuer.test", published(&keys)).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate).unwrap();
    let uri = format!("https://issuer.test:{}/v1/jwks", issuer.address.port());
    let algorithms = "RS256 RS512 PS384 ES256 ES384 EdDSA";
    let config = config_with(&uri, "", algorithms);
    let hosts = "[fetch.hosts]\n\"issuer.test\" = [\"127.0.0.1\"]\n";
    let pairs = |name: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        table[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect()
    };

    let trusting = House::start(&format!(
        "{config}[fetch]\nroots = {:?}\n{hosts}",
        roots.display().to_string()
    ));
    let good = pairs("good");
    assert_eq!(good.len(), 6);
    for (name, token) in &good {
        let answer = show(&trusting, token).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    for (name, token) in pairs("bad") {
        let answer = show(&trusting, &token).await;
        assert!(answer.text.contains("token-invalid-signature"), "{name}: {}", answer.text);
        assert_eq!(answer.status, 401, "{name}");
    }
    let seen = issuer.seen();
    assert_eq!(seen.len(), 1, "one question for all");
    assert_eq!(seen[0].authority, format!("issuer.test:{}", issuer.address.port()));
    // They are in the set, and are no keys for signatures.
    for (name, token) in pairs("hidden") {
        let answer = show(&trusting, &token).await;
        assert!(answer.text.contains("jwk-kid-mismatch"), "{name}: {}", answer.text);
    }

    // Without that root nobody can say that this is the issuer.
    let doubting = House::start(&format!("{config}[fetch]\n{hosts}"));
    refused(&show(&doubting, &good[0].1).await, 503, "jwk-remote-failed-to-load");
    doubting.wait_for_log("TlsCertificateError");
}
