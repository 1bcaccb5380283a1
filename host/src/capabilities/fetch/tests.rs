//! What is put on the wire and what is not.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::fetch::UrlPattern;

fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretText> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.to_string().into())).collect()
}

fn bearer() -> Vec<Inject> {
    vec![Inject {
        name: header::AUTHORIZATION,
        pieces: vec![Piece::Text("Bearer ".into()), Piece::Secret("KEY".into())],
    }]
}

#[test]
fn a_secret_is_put_in_and_marked_as_one() {
    let fields = fields(&bearer(), &secret(&[("KEY", "sk-1\n")])).unwrap();
    let (name, value) = fields.first().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer sk-1"));
    assert!(value.is_sensitive());
}

#[test]
fn a_missing_or_impossible_secret_is_named() {
    assert_eq!(fields(&bearer(), &secret(&[])).unwrap_err(), ["KEY"]);
    assert_eq!(fields(&bearer(), &secret(&[("KEY", "a\nb")])).unwrap_err(), ["KEY"]);
}

#[test]
fn the_authority_is_rewritten_and_the_query_kept() {
    let uri: http::Uri = "https://API.Example.com:443/v1/x?a=b&c=%20".parse().unwrap();
    let target = Target::of(&uri).unwrap();
    assert_eq!(rewritten(&uri, &target).unwrap(), "https://api.example.com/v1/x?a=b&c=%20");
}

#[test]
fn the_narrowest_grant_decides_what_is_sent_along() {
    let grant = |url: &str, inject: Vec<Inject>| FetchGrant {
        url: UrlPattern::parse(url).unwrap(),
        allow_private: false,
        inject,
    };
    let mut list = vec![
        grant("http://*.example.com", Vec::new()),
        grant("http://a.example.com", Vec::new()),
        grant("http://a.example.com/v1/", bearer()),
    ];
    list.sort_by_key(|grant| std::cmp::Reverse(grant.url.rank()));
    let network = Network::new(&crate::config::fetch::Fetch::default());
    let grants = FetchGrants::new(
        "test",
        &list,
        &secret(&[("KEY", "k")]),
        Limits::default(),
        &network,
        Calls::new(&[], 8, &Arc::default()),
    );
    let injected = |url: &str| {
        let uri: http::Uri = url.parse().unwrap();
        let found = grants.find(&Target::of(&uri).unwrap(), uri.path()).unwrap();
        found.inject.as_ref().unwrap().len()
    };
    assert_eq!(injected("http://a.example.com/v1/chat"), 1);
    assert_eq!(injected("http://a.example.com/v2"), 0);
    assert_eq!(injected("http://b.example.com/v1/chat"), 0);
}
