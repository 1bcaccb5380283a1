//! Names that answer this now and that later.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::fetch::UrlPattern;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

type Answers = Arc<Mutex<VecDeque<Vec<IpAddr>>>>;

/// Answers from a list, one answer each time.
struct Scripted(Answers);

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let answer = self.0.lock().pop_front();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("asked once too often")) })
    }
}

fn network(answers: &[&[&str]]) -> (Arc<Network>, Answers) {
    let answers: VecDeque<Vec<IpAddr>> = answers
        .iter()
        .map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect())
        .collect();
    let answers = Arc::new(Mutex::new(answers));
    let network = Network::with_resolver(&Fetch::default(), Box::new(Scripted(answers.clone())));
    (network, answers)
}

fn grant(url: &str, allow_private: bool) -> FetchGrant {
    FetchGrant { url: UrlPattern::parse(url).unwrap(), allow_private, inject: Vec::new() }
}

fn target(url: &str) -> Target {
    Target::of(&url.parse().unwrap()).unwrap()
}

async fn connect(network: &Network, url: &str, grant: &FetchGrant) -> Result<Stream, ConnectError> {
    network.connect(&Told::new("test", 1000), &target(url), grant, Duration::from_secs(5)).await
}

/// Nobody may have connected.
async fn is_quiet(listener: &tokio::net::TcpListener) -> bool {
    futures::poll!(Box::pin(listener.accept())).is_pending()
}

#[tokio::test]
async fn a_name_that_becomes_private_is_denied_and_never_asked_twice() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://rebind.example:{port}");
    // First a public address to which nothing leads in time, then loopback, where the listener waits.
    let (network, answers) = network(&[&["1.1.1.1"], &["127.0.0.1"], &["127.0.0.1"]]);
    let grant = grant(&url, false);
    let first = network
        .connect(&Told::new("test", 1000), &target(&url), &grant, Duration::from_millis(50))
        .await;
    assert!(first.is_err() && !matches!(first, Err(ConnectError::Denied)));
    assert_eq!(answers.lock().len(), 2, "one connection asks once");
    assert!(matches!(connect(&network, &url, &grant).await, Err(ConnectError::Denied)));
    assert_eq!(answers.lock().len(), 1);
    assert!(is_quiet(&listener).await);
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_are_tried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://mixed.example:{}", listener.local_addr().unwrap().port());
    let (network, _) =
        network(&[&["::ffff:127.0.0.1", "127.0.0.1", "169.254.169.254", "10.0.0.1"]]);
    assert!(matches!(
        connect(&network, &url, &grant(&url, false)).await,
        Err(ConnectError::Denied)
    ));
    assert!(is_quiet(&listener).await);
}

#[tokio::test]
async fn allow_private_reaches_loopback_and_still_not_metadata() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://inner.example:{}", listener.local_addr().unwrap().port());
    let (network, _) = network(&[&["169.254.169.254", "127.0.0.1"], &["169.254.169.254"]]);
    assert!(connect(&network, &url, &grant(&url, true)).await.is_ok());
    assert!(matches!(connect(&network, &url, &grant(&url, true)).await, Err(ConnectError::Denied)));
}

#[tokio::test]
async fn a_literal_private_address_is_its_own_grant_but_not_for_the_houses_doors() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap();
    let url = format!("http://{door}");
    let (network, _) = network(&[]);
    assert!(connect(&network, &url, &grant(&url, false)).await.is_ok());
    network.set_doors(vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, door.port()))]);
    assert!(matches!(
        connect(&network, &url, &grant(&url, false)).await,
        Err(ConnectError::Denied)
    ));
    assert!(connect(&network, &url, &grant(&url, true)).await.is_ok(), "unless it is said aloud");
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hold_up_the_next() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = dead.local_addr().unwrap().port();
    drop(dead);
    let alive = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let url = format!("http://two.example:{port}");
    let (network, _) = network(&[&["127.0.0.1", "127.0.0.2"]]);
    assert!(connect(&network, &url, &grant(&url, true)).await.is_ok());
    drop(alive);
}

#[tokio::test]
async fn an_address_from_the_configuration_is_checked_as_one_from_dns() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://fixed.example:{}", listener.local_addr().unwrap().port());
    let mut fetch = Fetch::default();
    fetch.hosts.insert("fixed.example".to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
    let network = Network::new(&fetch);
    assert!(matches!(
        connect(&network, &url, &grant(&url, false)).await,
        Err(ConnectError::Denied)
    ));
    assert!(is_quiet(&listener).await);
    assert!(connect(&network, &url, &grant(&url, true)).await.is_ok());
}

#[test]
fn roots_that_are_none_are_refused_with_the_knob() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    std::fs::write(&path, "no certificates").unwrap();
    let error = connector(Some(&path)).err().unwrap();
    assert!(error.contains("[fetch]"), "{error}");
}
