//! Outbound HTTP: what is granted goes out and streams, what is not goes nowhere.

use bytes::Bytes;
use futures::StreamExt;
use guesthouse_tests::upstream::{Upstream, answer, channel, streaming, until};
use guesthouse_tests::{House, guest, plugin};
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};

/// A house with one plugin that fetches, and these grants and lines.
fn house(grants: &str, rest: &str) -> House {
    House::start(&config(grants, rest))
}

fn config(grants: &str, rest: &str) -> String {
    plugin("out", &guest("fetch"), &format!("routes = [\"/*\"]\nfetch = [{grants}]\n{rest}"))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn fetch(house: &House, url: &str) -> (u16, String) {
    let answer = client().get(&house.url).header("x-url", url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_granted_request_goes_out_and_its_answer_comes_back() {
    let upstream = Upstream::start(|seen, body| async move {
        let body = body.collect().await.unwrap().to_bytes();
        let mut response = answer(418, "text/x", format!("{} {}", seen.method, body.len()));
        response.headers_mut().insert("x-upstream", "yes".parse().unwrap());
        response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
        response
    })
    .await;
    let house = house(&format!("\"{}\"", upstream.url()), "");
    let answer = client()
        .post(&house.url)
        .header("x-url", format!("{}/a%20b/c?d=e&f=%2F", upstream.url()))
        .header("x-send", "x-mine,content-type,authorization")
        .header("x-mine", "1")
        .header("authorization", "Bearer mine")
        .header("cookie", "session=1")
        .body(vec![7; 3_000_000])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.headers()["x-upstream"], "yes");
    assert!(!answer.headers().contains_key("keep-alive"));
    assert_eq!(answer.text().await.unwrap(), "POST 3000000");
    let seen = upstream.last();
    assert_eq!(seen.target, "/a%20b/c?d=e&f=%2F");
    assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
    assert_eq!(seen.header("x-mine"), Some("1"));
    assert_eq!(seen.header("authorization"), Some("Bearer mine"));
    assert_eq!(seen.header("cookie"), None, "nothing is sent that the guest did not send");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let upstream = Upstream::start(|_, _| async { answer(200, "text/plain", "ok") }).await;
    let house = House::start(&format!(
        "[server]\nthreads = 1\n[engine]\nslow_threads = 1\n{}",
        config(&format!("\"{}\"", upstream.url()), "instances = { reuse = 100 }")
    ));
    for _ in 0..20 {
        assert_eq!(fetch(&house, &upstream.url()).await, (200, "ok".into()));
    }
    // One for each lane, if the machine is so busy that a request was moved.
    assert!(upstream.connections() <= 2, "{}", upstream.connections());
}

#[tokio::test]
async fn what_no_grant_reaches_is_denied_and_the_log_says_how_to_grant_it() {
    let upstream = Upstream::start(|_, _| async { answer(200, "text/plain", "reached") }).await;
    let url = upstream.url();
    let house = house(&format!("\"{url}/v1/\""), "");
    assert_eq!(fetch(&house, &format!("{url}/v1/x")).await.0, 200);
    for path in
        ["/", "/v2", "/v1/../v2", "/v1/%2e%2e/v2", "/v1/..%2fv2", "/v1/%252e%252e/v2", "//v1/x"]
    {
        let (status, text) = fetch(&house, &format!("{url}{path}")).await;
        assert_eq!(status, 599, "{path}");
        assert!(text.contains("HttpRequestDenied"), "{text}");
    }
    house.wait_for_log("no grant reaches it. To allow it, add");
    house.wait_for_log("[plugins.out]");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn denied_requests_in_a_loop_do_not_fill_the_log() {
    let house = house("\"http://granted.test\"", "limits = { log = 3, queue = 300 }");
    let denied = (0..200).map(|at| {
        let house = &house;
        async move {
            let (status, text) = fetch(house, &format!("http://{at}.denied.test/")).await;
            assert_eq!(status, 599);
            assert!(text.contains("HttpRequestDenied"), "{text}");
        }
    });
    futures::future::join_all(denied).await;
    house.wait_for_log("more than 3 lines about outbound requests in a second");
    let lines = house.log().matches("was denied: no grant reaches it").count();
    // So many in each second; a machine on which they take a minute is none to judge by.
    assert!((3..=180).contains(&lines), "{lines} lines");
}

/// Every spelling of a place where no plugin may go. `{port}` is a listener's on loopback.
const FORBIDDEN: [&str; 76] = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.255.255.254:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://00.0.0.0:{port}/",
    "http://0x7f.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7F.0x0.0x0.0x1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0177.0.0.01:{port}/",
    "http://127.0.0.01:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.0.0.0x1:{port}/",
    "http://4294967297:{port}/",
    "http://6425673729:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://foo.localhost:{port}/",
    "http://ip6-localhost:{port}/",
    "http://loop.test:{port}/",
    "http://LOOP.test:{port}/",
    "http://mapped.test:{port}/",
    "http://nat64.test:{port}/",
    "http://six.test:{port}/",
    "http://zero.test:{port}/",
    "http://many.test:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::7f00:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:1]:{port}/",
    "http://[::ffff:0:7f00:1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://user:pass@127.0.0.1:{port}/",
    "http://granted.test@127.0.0.1:{port}/",
    "http://granted.test:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@granted.test/",
    "http://granted.test%00@127.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127.0.0.1%2f:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://ⓛocalhost:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://meta.test/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://198.18.0.1/",
];

#[tokio::test]
async fn no_spelling_of_a_forbidden_place_connects() {
    let upstream = Upstream::start(|_, _| async { answer(200, "text/plain", "reached") }).await;
    let port = upstream.address.port();
    // Names that are granted and lead to where nothing may go; and everything else that has a name.
    let hosts = "[fetch.hosts]\n\
        \"loop.test\" = [\"127.0.0.1\"]\n\"mapped.test\" = [\"::ffff:127.0.0.1\"]\n\
        \"nat64.test\" = [\"64:ff9b::7f00:1\"]\n\"six.test\" = [\"::1\"]\n\"zero.test\" = [\"0.0.0.0\"]\n\
        \"many.test\" = [\"10.0.0.1\", \"127.0.0.1\", \"fe80::1\"]\n\"meta.test\" = [\"169.254.169.254\"]\n";
    let grants = format!(
        "\"http://*.x.test:{port}\", \"http://loop.test:{port}\", \
        \"http://mapped.test:{port}\", \"http://nat64.test:{port}\", \"http://six.test:{port}\", \
        \"http://zero.test:{port}\", \"http://many.test:{port}\", \"http://meta.test\", \
        \"http://granted.test\""
    );
    let house = house(&grants, &format!("\n{hosts}"));
    for spelling in FORBIDDEN {
        let url = spelling.replace("{port}", &port.to_string());
        let value = reqwest::header::HeaderValue::from_bytes(url.as_bytes()).unwrap();
        let sent = client().get(&house.url).header("x-url", value).send().await.unwrap();
        let (status, text) = (sent.status().as_u16(), sent.text().await.unwrap());
        // A URL that is none is refused by the guest's own library, and 400 is the answer to a header that
        // is not text: nothing went out in either case.
        assert!(
            status == 400 || text.contains("HttpRequestDenied") || text.contains("Invalid"),
            "{url}: {status} {text}"
        );
    }
    assert_eq!(upstream.connections(), 0);
    house.wait_for_log("127.0.0.1 is loopback");
    house.wait_for_log("169.254.169.254 is cloud metadata");
    house.wait_for_log("allow_private = true");
    assert!(!house.log().contains("meta-data"), "the log has no paths");
}

#[tokio::test]
async fn a_name_whose_address_is_private_needs_allow_private() {
    let upstream = Upstream::start(|_, _| async { answer(200, "text/plain", "reached") }).await;
    let port = upstream.address.port();
    let hosts = "\n[fetch.hosts]\n\"inner.test\" = [\"127.0.0.1\"]\n";
    let url = format!("http://inner.test:{port}");
    let with = house(&format!("{{ url = \"{url}\", allow_private = true }}"), hosts);
    assert_eq!(fetch(&with, &url).await, (200, "reached".into()));
    assert_eq!(upstream.last().header("host"), Some(format!("inner.test:{port}").as_str()));
}

#[tokio::test]
async fn the_houses_own_doors_are_closed_to_its_guests() {
    let house = house("\"http://127.0.0.1:1\"", "");
    let admin = house.admin.clone();
    let own = house.url.clone();
    assert!(fetch(&house, &admin).await.1.contains("HttpRequestDenied"));
    assert!(fetch(&house, &own).await.1.contains("HttpRequestDenied"));
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_guest_and_never_followed() {
    let metadata = Upstream::start(|_, _| async { answer(200, "text/plain", "credentials") }).await;
    let location = format!("{}/latest/meta-data/", metadata.url());
    let upstream = Upstream::start(move |_, _| {
        let location = location.clone();
        async move {
            let mut response = answer(302, "text/plain", "elsewhere");
            response.headers_mut().insert("location", location.parse().unwrap());
            response
        }
    })
    .await;
    let house = house(&format!("\"{}\"", upstream.url()), "");
    let no_redirects = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let request = no_redirects.build().unwrap().get(&house.url).header("x-url", upstream.url());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 302);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        fetch(&house, &location).await.1.contains("HttpRequestDenied"),
        "if the guest follows it"
    );
    assert_eq!(metadata.connections(), 0);
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (upstream, senders) = Upstream::start_events().await;
    let url = upstream.url();
    let house = House::start(
        &(config(&format!("\"{url}\""), "")
            + &plugin(
                "p3",
                &guest("wasip3"),
                &format!("routes = [\"/fetch\"]\nfetch = [\"{url}\"]"),
            )),
    );
    for path in ["/", "/fetch"] {
        let request =
            client().get(format!("{}{path}", house.url)).header("x-url", format!("{url}/"));
        let mut answer = request.send().await.unwrap().bytes_stream();
        let sender = senders.lock().unwrap().pop().unwrap();
        for number in 0..5 {
            // The next is sent only when this one has arrived: whoever holds one back stops the test.
            let event = Bytes::from(format!("data: {number}\n\n"));
            sender.send(event.clone()).await.unwrap();
            assert_eq!(answer.next().await.unwrap().unwrap(), event, "{path}");
        }
        drop(sender);
        assert!(answer.next().await.is_none());
    }
}

/// An upstream that sends each piece back as it reads it.
async fn echo() -> Upstream {
    let unreadable = std::io::Error::other;
    Upstream::start(move |_, body| async move {
        hyper::Response::new(body.map_err(unreadable).boxed_unsync())
    })
    .await
}

/// A house that fetches, directly and by a plugin between.
fn house_with_another(url: &str) -> House {
    let limits = "limits = { body = \"64MiB\", outbound_request = \"64MiB\", outbound_response = \"64MiB\" }";
    let between = format!("fetch = [\"{url}\"]\n{limits}");
    House::start(
        &(config(&format!("\"{url}\""), &format!("calls = [\"between\"]\n{limits}"))
            + &plugin("between", &guest("fetch"), &between)),
    )
}

#[tokio::test]
async fn an_answer_that_comes_before_the_question_has_ended_arrives_piece_by_piece() {
    let upstream = echo().await;
    let url = upstream.url();
    let house = house_with_another(&url);
    for target in [format!("{url}/"), format!("http://between.internal/ {url}/")] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), receiver))
        });
        let request = client().post(&house.url).header("x-url", &target);
        let request = request.body(reqwest::Body::wrap_stream(pieces));
        sender.send(Bytes::from_static(b"first")).await.unwrap();
        let answer = tokio::time::timeout(guesthouse_tests::PATIENCE, request.send());
        let mut answer = answer.await.expect(&target).unwrap().bytes_stream();
        for number in 0..5 {
            // The next is sent only when this one has come back.
            let piece = if number == 0 { "first".to_owned() } else { format!("piece {number}") };
            if number > 0 {
                sender.send(Bytes::from(piece.clone())).await.unwrap();
            }
            let next = tokio::time::timeout(guesthouse_tests::PATIENCE, answer.next()).await;
            assert_eq!(next.expect(&target).unwrap().unwrap(), piece);
        }
        drop(sender);
        assert!(answer.next().await.is_none(), "{target}");
    }
}

#[tokio::test]
async fn a_server_that_sends_back_what_it_reads_does_not_stall_a_large_request() {
    let upstream = echo().await;
    let url = upstream.url();
    let house = house_with_another(&url);
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    for target in [format!("{url}/"), format!("http://between.internal/ {url}/")] {
        let request = client().post(&house.url).header("x-url", &target).body(body.clone());
        let whole = async { request.send().await.unwrap().bytes().await.unwrap() };
        let got = tokio::time::timeout(guesthouse_tests::PATIENCE, whole).await.expect(&target);
        assert!(got == body, "{target}: {} bytes", got.len());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_upstream_request() {
    let (upstream, senders) = Upstream::start_events().await;
    let url = upstream.url();
    let house = House::start(
        &(config(&format!("\"{url}\""), "")
            + &plugin(
                "p3",
                &guest("wasip3"),
                &format!("routes = [\"/fetch\"]\nfetch = [\"{url}\"]"),
            )),
    );
    for path in ["/", "/fetch"] {
        let request =
            client().get(format!("{}{path}", house.url)).header("x-url", format!("{url}/"));
        let mut answer = request.send().await.unwrap().bytes_stream();
        let sender = senders.lock().unwrap().pop().unwrap();
        sender.send(Bytes::from_static(b"data: 0\n\n")).await.unwrap();
        answer.next().await.unwrap().unwrap();
        // Silence from upstream: only the client's leaving can end it.
        drop(answer);
        tokio::time::timeout(guesthouse_tests::PATIENCE, sender.closed()).await.expect(path);
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_upstream_request() {
    let (arrived, gone) = (Arc::new(tokio::sync::Notify::new()), Arc::new(Mutex::new(false)));
    struct Tell(Arc<Mutex<bool>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = true;
        }
    }
    let upstream = Upstream::start({
        let (arrived, gone) = (arrived.clone(), gone.clone());
        move |_, _| {
            let (arrived, tell) = (arrived.clone(), Tell(gone.clone()));
            async move {
                arrived.notify_one();
                let _tell = tell;
                std::future::pending().await
            }
        }
    })
    .await;
    let house = house(&format!("\"{}\"", upstream.url()), "");
    let request = client().get(&house.url).header("x-url", upstream.url());
    let waiting = tokio::spawn(request.send());
    arrived.notified().await;
    waiting.abort();
    until("the upstream request ends", || *gone.lock().unwrap()).await;
}

#[tokio::test]
async fn a_response_that_is_cut_is_cut_for_the_client() {
    let cut = Arc::new(tokio::sync::Notify::new());
    let upstream = Upstream::start({
        let cut = cut.clone();
        move |_, _| {
            let cut = cut.clone();
            let half = futures::stream::iter([Ok(Bytes::from_static(b"half"))]);
            let end = futures::stream::once(async move {
                cut.notified().await;
                Err(std::io::Error::other("cut"))
            });
            async { streaming(200, "text/plain", half.chain(end)) }
        }
    })
    .await;
    let house = house(&format!("\"{}\"", upstream.url()), "");
    let answer = client().get(&house.url).header("x-url", upstream.url()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.bytes_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "half");
    cut.notify_one();
    assert!(body.next().await.unwrap().is_err(), "half an answer must not look whole");
}

#[tokio::test]
async fn every_limit_of_outbound_requests_is_named_when_it_is_met() {
    let senders = Arc::new(Mutex::new(Vec::new()));
    let upstream = Upstream::start({
        let senders = senders.clone();
        move |seen, body| {
            let senders = senders.clone();
            async move {
                match seen.path() {
                    "/large" => answer(200, "text/plain", vec![0; 2000]),
                    "/never" => std::future::pending().await,
                    "/silent" => {
                        let (sender, response) = channel("text/plain");
                        sender.send(Bytes::from_static(b"first")).await.unwrap();
                        senders.lock().unwrap().push(sender);
                        response
                    }
                    _ => {
                        let length = body.collect().await.map(|body| body.to_bytes().len());
                        answer(200, "text/plain", format!("{length:?}"))
                    }
                }
            }
        }
    })
    .await;
    let url = upstream.url();
    let house = house(
        &format!("\"{url}\""),
        "limits = { outbound = 1, outbound_request = 1000, outbound_response = 1999, \
         outbound_connect = \"300ms\", outbound_first_byte = \"300ms\", outbound_idle = \"500ms\" }",
    );
    let post = |size: usize| {
        let request = client().post(&house.url).header("x-url", format!("{url}/post"));
        request.body(vec![1; size]).send()
    };
    assert_eq!(post(1000).await.unwrap().status(), 200);
    assert!(post(1001).await.unwrap().text().await.unwrap().contains("RequestBodySize"));
    house.wait_for_log("limits.outbound_request");
    // The limit may be met before the head has left.
    let large = client().get(&house.url).header("x-url", format!("{url}/large")).send();
    assert!(async { large.await?.error_for_status()?.bytes().await }.await.is_err());
    house.wait_for_log("limits.outbound_response");
    let (status, text) = fetch(&house, &format!("{url}/never")).await;
    assert!(status == 599 && text.contains("ReadTimeout"), "{text}");
    house.wait_for_log("limits.outbound_first_byte");
    let silent =
        client().get(&house.url).header("x-url", format!("{url}/silent")).send().await.unwrap();
    let (status, text) = fetch(&house, &format!("{url}/post")).await;
    assert!(status == 599 && text.contains("ConnectionLimitReached"), "{text}");
    house.wait_for_log("limits.outbound)");
    assert!(silent.bytes().await.is_err());
    house.wait_for_log("limits.outbound_idle");
}

#[tokio::test]
async fn a_secret_is_sent_along_and_the_plugin_never_has_it() {
    let upstream = Upstream::start(|seen, _| async move {
        answer(200, "text/plain", seen.header("authorization").unwrap_or("none").len().to_string())
    })
    .await;
    let url = upstream.url();
    let grant = format!(
        "{{ url = \"{url}/with\", inject = {{ authorization = \"Bearer ${{FETCH_TEST_KEY}}\" }} }}, \
         {{ url = \"{url}/missing\", inject = {{ x-key = \"${{FETCH_TEST_NONE}}\" }} }}, \"{url}/plain\""
    );
    let house = House::start_with(&config(&grant, ""), &[("FETCH_TEST_KEY", "sk-secret")]);
    let send = |path: &str| {
        let request = client().get(&house.url).header("x-url", format!("{url}{path}"));
        request.header("x-send", "authorization").header("authorization", "Bearer forged").send()
    };
    assert_eq!(send("/with").await.unwrap().status(), 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer sk-secret"));
    assert_eq!(send("/plain").await.unwrap().status(), 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer forged"));
    let missing = send("/missing").await.unwrap();
    assert!(missing.text().await.unwrap().contains("ConfigurationError"));
    house.wait_for_log("FETCH_TEST_NONE");
    assert!(!house.log().contains("sk-secret"));
    let check = |path: &str| {
        let request = client().get(format!("{}/check", house.url));
        request.header("x-url", format!("{url}{path}")).send()
    };
    assert_eq!(check("/with/x").await.unwrap().status(), 200);
    assert_eq!(check("/elsewhere").await.unwrap().status(), 403);
    let missing = check("/missing").await.unwrap();
    assert_eq!(
        (missing.status().as_u16(), missing.text().await.unwrap().as_str()),
        (503, "FETCH_TEST_NONE")
    );
}

#[tokio::test]
async fn a_plugin_without_a_grant_reaches_nothing() {
    let upstream = Upstream::start(|_, _| async { answer(200, "text/plain", "reached") }).await;
    let house = House::start(&plugin("out", &guest("fetch"), "routes = [\"/*\"]"));
    assert!(fetch(&house, &upstream.url()).await.1.contains("HttpRequestDenied"));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_wrong_grant_stops_the_start_and_says_what_is_wrong() {
    for (grants, expected) in [
        ("\"api.example.com\"", "begin with https://"),
        ("\"https://0x7f.1\"", "four decimal numbers"),
        ("{ url = \"https://a.example\", inject = { host = \"b\" } }", "can't be injected"),
        ("{ url = \"http://a.example\", inject = { authorization = \"${KEY}\" } }", "in the clear"),
        ("{ url = \"https://a.example\", allow_privat = true }", "allow_private"),
        ("\"${GUESTHOUSE_TEST_UNSET_URL}\"", "GUESTHOUSE_TEST_UNSET_URL"),
    ] {
        let said = House::refuses(&config(grants, ""));
        assert!(said.contains(expected), "{grants}: {said}");
    }
}

#[tokio::test]
async fn tls_is_checked_against_the_configured_roots_and_speaks_http_2() {
    let (upstream, certificate) = Upstream::start_tls("secure.test", |seen, body| async move {
        let length = body.collect().await.unwrap().to_bytes().len();
        answer(200, "text/plain", format!("{:?} {length}", seen.version))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate).unwrap();
    let port = upstream.address.port();
    let grants = format!(
        "{{ url = \"https://secure.test:{port}\", allow_private = true }}, \
         {{ url = \"https://other.test:{port}\", allow_private = true }}"
    );
    let hosts =
        "[fetch.hosts]\n\"secure.test\" = [\"127.0.0.1\"]\n\"other.test\" = [\"127.0.0.1\"]\n";
    let secure = format!("https://secure.test:{port}/");

    let trusting =
        house(&grants, &format!("\n[fetch]\nroots = {:?}\n{hosts}", roots.display().to_string()));
    let request = client().post(&trusting.url).header("x-url", &secure).body(vec![1; 200_000]);
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "HTTP/2.0 200000");
    assert_eq!(upstream.last().authority, format!("secure.test:{port}"));
    let other = fetch(&trusting, &format!("https://other.test:{port}/")).await.1;
    assert!(other.contains("TlsCertificateError"), "a certificate is for its name: {other}");

    let plain = house(&grants, &format!("\n{hosts}"));
    let (_, text) = fetch(&plain, &secure).await;
    assert!(text.contains("TlsCertificateError"), "{text}");
    assert_eq!(upstream.seen().len(), 1);
}
