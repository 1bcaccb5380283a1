//! The CMS plugin: what a person, a program and a stranger can do with `/my-cms` and `/live-cms`.

use guesthouse_tests::cms::{ROUTES, call, house, put, send, text};
use guesthouse_tests::{House, house_folder, plugin};
use reqwest::Response;
use serde_json::Value;
use std::io::Write as _;

async fn json(house: &House, who: &str, path: &str) -> Value {
    send(house, who, "GET", path).await.json().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn paths(listing: &Value) -> Vec<&str> {
    let files = listing["files"].as_array().unwrap();
    files.iter().map(|file| file["path"].as_str().unwrap()).collect()
}

/// The reference's table (§5.1 of its description) in its intended form, row by row.
#[tokio::test]
async fn what_the_reference_does_is_done_as_it_was_meant() {
    let house = house("live_writers = \"ann\"");
    for (path, body) in
        [("page.html", "<p>page"), ("dir/index.html", "<p>dir"), ("app.js", "1"), ("exact", "x")]
    {
        assert_eq!(put(&house, "ann", &format!("/live-cms/{path}?v=1"), body).await.status(), 201);
    }
    for (method, path, status, kind, body) in [
        // The path, then with `.html`, then the index of the folder; the query is never part of the name.
        ("GET", "/live-cms/page.html", 200, "text/html; charset=utf-8", "<p>page"),
        ("GET", "/live-cms/page", 200, "text/html; charset=utf-8", "<p>page"),
        ("GET", "/live-cms/page?x=app.js", 200, "text/html; charset=utf-8", "<p>page"),
        ("GET", "/live-cms/dir", 200, "text/html; charset=utf-8", "<p>dir"),
        ("GET", "/live-cms/dir/", 200, "text/html; charset=utf-8", "<p>dir"),
        ("GET", "/live-cms/app.js", 200, "text/javascript; charset=utf-8", "1"),
        // Without an ending it is no script.
        ("GET", "/live-cms/exact", 200, "text/plain; charset=utf-8", "x"),
        ("HEAD", "/live-cms/exact", 200, "text/plain; charset=utf-8", ""),
        ("GET", "/live-cms/none", 404, "text/plain; charset=utf-8", "There is no such document.\n"),
        ("GET", "/live-cms/a//exact", 400, "text/plain; charset=utf-8", "*"),
        ("GET", "/live-cmsx/exact", 404, "text/plain; charset=utf-8", "*"),
        ("PATCH", "/live-cms/exact", 405, "text/plain; charset=utf-8", "*"),
        ("DELETE", "/live-cms/none", 404, "text/plain; charset=utf-8", "*"),
        ("DELETE", "/live-cms/exact", 204, "", ""),
        ("DELETE", "/live-cms/exact", 404, "text/plain; charset=utf-8", "*"),
        ("GET", "/live-cms/exact", 404, "text/plain; charset=utf-8", "*"),
    ] {
        let answer = send(&house, "ann", method, path).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(header(&answer, "content-type"), kind, "{method} {path}");
        if status == 200 {
            assert_eq!(header(&answer, "access-control-allow-origin"), "*");
            assert_eq!(header(&answer, "cache-control"), "public, no-cache", "never a year");
            assert!(header(&answer, "etag").starts_with('"'), "{path}");
        }
        let said = answer.text().await.unwrap();
        assert!(body == "*" || said == body, "{method} {path}: {said}");
    }
    let patch = send(&house, "ann", "PATCH", "/live-cms/page").await;
    assert_eq!(header(&patch, "allow"), "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS");
    // Twice put is replaced, and the second answer says so.
    let again = put(&house, "ann", "/live-cms/page.html", "<p>new").await;
    assert_eq!((again.status().as_u16(), header(&again, "x-version")), (204, "2"));
    assert_eq!(text(&house, "", "/live-cms/page").await, (200, "<p>new".into()));
}

#[tokio::test]
async fn what_came_along_with_an_upload_comes_back() {
    let house = house("live_writers = \"ann\", max_age = \"60\"");
    let sent = call(&house, "ann", "PUT", "/live-cms/a%20b/%C3%BC")
        .header("content-type", "text/x-mine; charset=latin1")
        .header("cache-control", "public, max-age=31536000, immutable")
        .header("content-disposition", "attachment; filename=\"x\"")
        .header("content-language", "de")
        .header("x-meta-author", "Ann")
        .header("x-other", "no")
        .body("grüße")
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 201);
    assert_eq!(header(&sent, "location"), "/live-cms/a%20b/%C3%BC");
    let tag = header(&sent, "etag").to_owned();
    // The same name, in its decomposed form.
    let got = send(&house, "", "GET", "/live-cms/a%20b/u%CC%88").await;
    assert_eq!(got.status(), 200);
    for (name, value) in [
        ("content-type", "text/x-mine; charset=latin1"),
        ("cache-control", "public, max-age=60, must-revalidate"),
        ("content-disposition", "attachment; filename=\"x\""),
        ("content-language", "de"),
        ("x-meta-author", "Ann"),
        ("x-other", ""),
        ("etag", tag.as_str()),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
    ] {
        assert_eq!(header(&got, name), value, "{name}");
    }
    assert_eq!(got.text().await.unwrap(), "grüße");
}

#[tokio::test]
async fn a_reader_s_conditions_ranges_and_codings_are_heard() {
    let house = house("live_writers = \"ann\"");
    let long = "All work and no play. ".repeat(200);
    let tag = header(&put(&house, "ann", "/live-cms/t.txt", &long).await, "etag").to_owned();
    let get = |fields: &[(&'static str, &str)]| {
        let mut request = call(&house, "", "GET", "/live-cms/t.txt");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        async move { request.send().await.unwrap() }
    };
    let fresh = get(&[("if-none-match", &tag)]).await;
    assert_eq!((fresh.status().as_u16(), header(&fresh, "etag")), (304, tag.as_str()));
    let part = get(&[("range", "bytes=4-7")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(header(&part, "content-range"), format!("bytes 4-7/{}", long.len()));
    assert_eq!(part.text().await.unwrap(), "work");
    assert_eq!(get(&[("range", "bytes=999999-")]).await.status(), 416);
    assert_eq!(get(&[("range", "bytes=0-3"), ("if-range", "\"old\"")]).await.status(), 200);
    assert_eq!(get(&[("if-match", "\"old\"")]).await.status(), 412);
    for coding in ["br", "gzip"] {
        let packed = get(&[("accept-encoding", coding)]).await;
        assert_eq!(header(&packed, "content-encoding"), coding);
        assert_eq!(header(&packed, "vary"), "Accept-Encoding");
        let its = header(&packed, "etag").to_owned();
        assert_ne!(its, tag, "another representation has another tag");
        let bytes = packed.bytes().await.unwrap();
        let mut plain = String::new();
        match coding {
            "br" => std::io::Read::read_to_string(
                &mut brotli::Decompressor::new(&bytes[..], 4096),
                &mut plain,
            ),
            _ => std::io::Read::read_to_string(
                &mut flate2::read::GzDecoder::new(&bytes[..]),
                &mut plain,
            ),
        }
        .unwrap();
        assert_eq!(plain, long);
        assert_eq!(get(&[("if-none-match", &its)]).await.status(), 304);
    }
    let head = send(&house, "", "HEAD", "/live-cms/t.txt").await;
    assert_eq!(header(&head, "content-length"), long.len().to_string());
}

#[tokio::test]
async fn nobody_writes_without_a_name_and_nobody_in_another_s_space() {
    let house = house("live_writers = \"ann\"");
    for (who, path, status) in [
        ("", "/live-cms/x", 401),
        ("bob", "/live-cms/x", 403),
        ("ann", "/live-cms/x", 201),
        ("", "/my-cms/x", 401),
        ("bob", "/my-cms/x", 201),
        ("bob", "/my-cms/~ann/x", 403),
        ("bob", "/my-cms/~bob/y", 201),
        ("", "/my-cms/~bob/x", 401),
    ] {
        for method in ["PUT", "DELETE", "POST"] {
            let answer = send(&house, who, method, &format!("{path}?publish=1")).await;
            if status >= 400 {
                assert_eq!(answer.status(), status, "{who} {method} {path}");
            }
            if status == 401 {
                assert!(header(&answer, "www-authenticate").starts_with("Bearer"));
            }
        }
        assert_eq!(put(&house, who, path, "body").await.status(), status, "{who} {path}");
    }
    // A body that nobody may send is not waited for.
    let refused = house.raw(
        b"PUT /live-cms/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nconnection: close\r\n\r\n",
    );
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    // Without any auth in front there is no caller, and nobody writes.
    let alone = ROUTES.replace("auth = \"optional\"\n", "");
    let open = House::start(&plugin(
        "cms",
        &house_folder().join("plugins/cms.wasm"),
        &format!("{alone}config = {{ live_writers = \"*\" }}"),
    ));
    assert_eq!(put(&open, "ann", "/live-cms/x", "body").await.status(), 401);
    assert_eq!(put(&open, "", "/my-cms/x", "body").await.status(), 401);
}

/// The plugins of a real house: its own auth plugin, in production.
#[tokio::test]
async fn in_production_nobody_writes_but_whom_the_issuer_vouches_for() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let pem = pair.public_key_pem().replace('\n', "\\n");
    let token = |subject: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let claims =
            serde_json::json!({ "sub": subject, "iat": now.as_secs(), "exp": now.as_secs() + 600 });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT"}"#);
        let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = pair.sign(text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let component = |name: &str| house_folder().join(format!("plugins/{name}.wasm"));
    let auth = format!(
        "kv = [\"default\"]\ninstances = {{ reuse = 1000 }}\n\
         config = {{ jwt_key = \"{pem}\", algorithms = \"EdDSA\" }}"
    );
    let config = "[auth]\nplugin = \"auth\"\n".to_owned()
        + &plugin("auth", &component("auth"), &auth)
        + &plugin(
            "cms",
            &component("cms"),
            &format!("{ROUTES}config = {{ live_writers = \"ann\" }}"),
        );
    let house = House::start_with(&config, &[("GUESTHOUSE_ENV", "prod")]);
    let ask = |bearer: Option<String>, method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", house.url));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        async move { request.body("body").send().await.unwrap().status().as_u16() }
    };
    let (code, dev) = house.run(&["auth", "token", "--sub", "ann"]);
    let dev = if code == 0 { dev.trim().to_owned() } else { "e30.e30.e30".to_owned() };
    let (head, signature) = (token("ann"), token("bob"));
    let mixed =
        format!("{}.{}", head.rsplit_once('.').unwrap().0, signature.rsplit_once('.').unwrap().1);
    for path in [
        "/live-cms/x",
        "/my-cms/x",
        "/my-cms/~ann/x",
        "/live-cms/a/b/c.html",
        "/my-cms/x?publish=1",
    ] {
        for method in ["PUT", "DELETE", "POST", "MKCOL"] {
            // Nobody, the issuer of development, and a token that is no token.
            for bearer in [None, Some(dev.clone()), Some(mixed.clone()), Some("good ann".into())] {
                let status = ask(bearer.clone(), method, path).await;
                assert_eq!(status, 401, "{method} {path} as {bearer:?}");
            }
        }
    }
    let listed = house.run(&["kv", "list", "~cms"]).1;
    assert_eq!(listed.matches("blob/").count(), 0, "{listed}");
    assert_eq!(ask(Some(token("bob")), "PUT", "/live-cms/x").await, 403);
    assert_eq!(ask(Some(token("bob")), "PUT", "/my-cms/x").await, 201);
    assert_eq!(ask(Some(token("bob")), "PUT", "/my-cms/~ann/x").await, 403);
    assert_eq!(ask(Some(token("ann")), "PUT", "/live-cms/x").await, 201);
    assert_eq!(ask(None, "GET", "/live-cms/x").await, 200);
}

#[tokio::test]
async fn with_strict_folders_a_document_needs_its_folder() {
    let strict = house("strict_folders = \"true\"");
    for (method, path, status) in [
        ("PUT", "/my-cms/a/page", 409),
        ("PUT", "/my-cms/page", 201),
        ("MKCOL", "/my-cms/a/b/", 409),
        ("MKCOL", "/my-cms/a/", 201),
        ("MKCOL", "/my-cms/a/", 405),
        ("PUT", "/my-cms/a/page", 201),
        ("PUT", "/my-cms/a/b/page", 409),
        ("MKCOL", "/my-cms/a/b", 201),
        ("PUT", "/my-cms/a/b/page", 201),
        // Another's folder is not one's own.
        ("PUT", "/my-cms/c/page", 409),
        ("DELETE", "/my-cms/a/", 204),
        ("GET", "/my-cms/a/b/page", 404),
        ("PUT", "/my-cms/a/b/page", 409),
    ] {
        let answer = call(&strict, "ann", method, path);
        let answer = if method == "PUT" { answer.body("x") } else { answer };
        assert_eq!(answer.send().await.unwrap().status(), status, "{method} {path}");
    }
    assert_eq!(put(&strict, "bob", "/my-cms/a/page", "x").await.status(), 409);
    // Otherwise nobody has to make one.
    let house = house("");
    assert_eq!(put(&house, "ann", "/my-cms/a/b/c/page", "x").await.status(), 201);
}

#[tokio::test]
async fn a_personal_page_is_its_owner_s_until_it_is_published() {
    let house = house("");
    assert_eq!(put(&house, "ann", "/my-cms/diary.html", "<p>secret").await.status(), 201);
    assert_eq!(text(&house, "ann", "/my-cms/diary").await, (200, "<p>secret".into()));
    assert_eq!(text(&house, "ann", "/my-cms/~ann/diary").await.0, 200);
    for (who, path, status) in [
        ("", "/my-cms/diary", 401),
        ("bob", "/my-cms/diary", 404),
        ("", "/my-cms/~ann/diary", 404),
        ("bob", "/my-cms/~ann/diary", 404),
        ("bob", "/my-cms/~ann/?list=", 403),
        ("", "/my-cms/~ann/?list=", 401),
        ("", "/my-cms/?list=", 401),
    ] {
        assert_eq!(text(&house, who, path).await.0, status, "{who} {path}");
    }
    let private = send(&house, "ann", "GET", "/my-cms/diary").await;
    assert_eq!(header(&private, "cache-control"), "private, no-cache");
    assert!(header(&private, "vary").contains("Authorization"));

    let published = send(&house, "ann", "POST", "/my-cms/diary.html?publish=1").await;
    assert_eq!((published.status().as_u16(), header(&published, "x-published")), (204, "1"));
    for who in ["", "bob"] {
        assert_eq!(text(&house, who, "/my-cms/~ann/diary").await, (200, "<p>secret".into()));
        // What was there before stays between those who may write.
        assert_eq!(text(&house, who, "/my-cms/~ann/diary.html?version=1").await.0, 404);
        assert_eq!(text(&house, who, "/my-cms/~ann/diary.html?versions").await.1, "<p>secret");
    }
    // It stays published when it is written again, and is taken back when its owner says so.
    assert_eq!(put(&house, "ann", "/my-cms/diary.html", "<p>two").await.status(), 204);
    assert_eq!(text(&house, "", "/my-cms/~ann/diary").await.1, "<p>two");
    let hidden = send(&house, "ann", "POST", "/my-cms/diary.html?publish=0").await;
    assert_eq!(hidden.status(), 204);
    assert_eq!(text(&house, "", "/my-cms/~ann/diary").await.0, 404);
    let at_once = call(&house, "ann", "PUT", "/my-cms/open").header("x-publish", "1").body("o");
    assert_eq!(at_once.send().await.unwrap().status(), 201);
    assert_eq!(text(&house, "", "/my-cms/~ann/open").await.0, 200);
}

#[tokio::test]
async fn of_many_who_write_under_a_condition_one_wins() {
    let house = house("live_writers = \"*\"");
    let race = |name: &'static str, value: String| {
        let house = &house;
        async move {
            let writers = (0..16).map(|number| {
                let request = call(house, &format!("w{number}"), "PUT", "/live-cms/race")
                    .header(name, &value)
                    .body(format!("{number}"));
                async move { (number, request.send().await.unwrap()) }
            });
            let answers = futures::future::join_all(writers).await;
            let (won, lost): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|(_, answer)| answer.status().is_success());
            assert!(lost.iter().all(|(_, answer)| answer.status() == 412), "{lost:?}");
            assert_eq!(won.len(), 1, "{won:?}");
            let (number, answer) = &won[0];
            let got = send(house, "", "GET", "/live-cms/race").await;
            assert_eq!(header(&got, "etag"), header(answer, "etag"));
            let tag = header(&got, "etag").to_owned();
            assert_eq!(got.text().await.unwrap(), number.to_string());
            tag
        }
    };
    let tag = race("if-none-match", "*".into()).await;
    let tag = race("if-match", tag).await;
    _ = race("if-match", tag).await;
    // Without a condition all of them are kept, one after the other.
    let all = (0..16)
        .map(|number| call(&house, "ann", "PUT", "/live-cms/race").body(number.to_string()).send());
    let answers: Vec<Response> =
        futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.status() == 204), "{answers:?}");
    let versions = json(&house, "ann", "/live-cms/race?versions").await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 19);
    for method in ["PUT", "DELETE"] {
        let stale = call(&house, "ann", method, "/live-cms/race").header("if-match", "\"old\"");
        assert_eq!(stale.send().await.unwrap().status(), 412, "{method}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_changes_nothing() {
    let house = house("");
    put(&house, "ann", "/my-cms/page", "the old page").await;
    let auth = "authorization: Bearer good ann\r\n";
    let piece = "x".repeat(4000);
    for head in [
        // Small, large, and of unknown length.
        "content-length: 8000\r\n\r\n".to_owned(),
        "content-length: 8000000\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\nfa0\r\n".to_owned(),
    ] {
        let mut stream = std::net::TcpStream::connect(house.address()).unwrap();
        write!(stream, "PUT /my-cms/page HTTP/1.1\r\nhost: x\r\n{auth}{head}{piece}").unwrap();
        drop(stream);
    }
    // The three have been given up when the plugin works on none of them.
    let began = std::time::Instant::now();
    while house.api("/v1/plugins/cms")["version"]["running"] != 0 {
        assert!(began.elapsed() < guesthouse_tests::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(text(&house, "ann", "/my-cms/page").await.1, "the old page");
    let versions = json(&house, "ann", "/my-cms/page?versions").await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);
    let (_, keys) = house.run(&["kv", "list", "~cms"]);
    assert_eq!(keys.matches("blob/").count(), 1, "{keys}");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_upload_leaves_the_old_page() {
    let house = house("");
    put(&house, "ann", "/my-cms/page", "the old page").await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = std::net::TcpStream::connect(house.address()).unwrap();
        let head = "PUT /my-cms/page HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good ann\r\n\
                    content-length: 20000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; 3_000_000]).unwrap();
        streams.push(stream);
    }
    while house.api("/v1/plugins/cms")["version"]["running"].as_u64() < Some(4) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let house = house.crash_and_restart();
    assert_eq!(text(&house, "ann", "/my-cms/page").await, (200, "the old page".into()));
    assert_eq!(put(&house, "ann", "/my-cms/page", "the new page").await.status(), 204);
    let house = house.crash_and_restart();
    assert_eq!(text(&house, "ann", "/my-cms/page").await, (200, "the new page".into()));
}

#[tokio::test]
async fn twenty_versions_are_kept_read_and_restored() {
    let house = house("live_writers = \"ann\"");
    for number in 1..=23 {
        put(&house, "ann", "/my-cms/page", &format!("number {number}")).await;
    }
    let history = json(&house, "ann", "/my-cms/page?versions").await;
    let numbers: Vec<u64> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (4..=23).rev().collect::<Vec<_>>());
    let old = send(&house, "ann", "GET", "/my-cms/page?version=4").await;
    assert_eq!(header(&old, "cache-control"), "private, max-age=31536000, immutable");
    assert_eq!(old.text().await.unwrap(), "number 4");
    assert_eq!(text(&house, "ann", "/my-cms/page?version=3").await.0, 404);

    // By PUT without a body or by POST; under a condition like any other write.
    let tag = header(&send(&house, "ann", "HEAD", "/my-cms/page").await, "etag").to_owned();
    let stale = call(&house, "ann", "PUT", "/my-cms/page?version=5").header("if-match", "\"x\"");
    assert_eq!(stale.send().await.unwrap().status(), 412);
    let restored = call(&house, "ann", "PUT", "/my-cms/page?version=5").header("if-match", &tag);
    let restored = restored.send().await.unwrap();
    assert_eq!((restored.status().as_u16(), header(&restored, "x-version")), (204, "24"));
    assert_ne!(header(&restored, "etag"), tag);
    assert_eq!(text(&house, "ann", "/my-cms/page").await.1, "number 5");
    let with_body = put(&house, "ann", "/my-cms/page?version=6", "both?").await;
    assert_eq!(with_body.status(), 400);
    // The version that it came from falls out of the history: the bytes are still there.
    for _ in 0..3 {
        put(&house, "ann", "/my-cms/other", "o").await;
        send(&house, "ann", "POST", "/my-cms/page?restore=23").await;
    }
    assert_eq!(text(&house, "ann", "/my-cms/page?version=24").await.1, "number 5");

    assert_eq!(send(&house, "ann", "DELETE", "/my-cms/page").await.status(), 204);
    assert_eq!(text(&house, "ann", "/my-cms/page").await.0, 404);
    assert_eq!(json(&house, "ann", "/my-cms/page?versions").await["versions"][0]["version"], 27);
    let back = send(&house, "ann", "POST", "/my-cms/page?restore=24").await;
    assert_eq!(back.status(), 201, "it was not there");
    assert_eq!(text(&house, "ann", "/my-cms/page").await.1, "number 5");
    // And for good.
    assert_eq!(send(&house, "ann", "DELETE", "/my-cms/page?purge").await.status(), 204);
    assert_eq!(send(&house, "ann", "POST", "/my-cms/page?restore=24").await.status(), 404);
    let (_, keys) = house.run(&["kv", "list", "~cms"]);
    assert_eq!((keys.matches("blob/").count(), keys.matches("gone/").count()), (3, 0), "{keys}");
    // A tag is never used again.
    let new = put(&house, "ann", "/my-cms/page", "number 5").await;
    assert_eq!(new.status(), 201);
    assert_ne!(header(&new, "etag"), header(&back, "etag"));
}

#[tokio::test]
async fn a_listing_pages_through_a_space() {
    let house = house("live_writers = \"ann\"");
    for name in ["a/1.txt", "a/2.txt", "a/3.txt", "b.txt", "%3Cimg%20src=x%3E.txt"] {
        put(&house, "ann", &format!("/my-cms/{name}"), name).await;
    }
    put(&house, "bob", "/my-cms/bobs.txt", "b").await;
    put(&house, "ann", "/live-cms/everyone.txt", "e").await;
    let all = json(&house, "ann", "/my-cms/?list=").await;
    assert_eq!(paths(&all), ["<img src=x>.txt", "a/1.txt", "a/2.txt", "a/3.txt", "b.txt"]);
    assert_eq!(all["quota"]["files"], 6);
    let file = &all["files"][1];
    assert_eq!((&file["size"], &file["type"]), (&7.into(), &"text/plain; charset=utf-8".into()));
    let head = send(&house, "ann", "HEAD", "/my-cms/a/1.txt").await;
    assert_eq!(file["etag"], header(&head, "etag"));

    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = json(&house, "ann", &format!("/my-cms/?list=a/&limit=2{cursor}")).await;
        found.extend(paths(&page).into_iter().map(str::to_owned));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(found, ["a/1.txt", "a/2.txt", "a/3.txt"]);
    assert_eq!(paths(&json(&house, "ann", "/my-cms/a/?list=2").await), ["a/2.txt"]);
    assert_eq!(paths(&json(&house, "", "/live-cms/?list=").await), ["everyone.txt"]);
    assert_eq!(send(&house, "ann", "GET", "/my-cms/?list=&cursor=nonsense").await.status(), 400);

    // For a person: a page in which no name is anything but a name.
    let page = call(&house, "ann", "GET", "/my-cms/?list=").header("accept", "text/html,*/*;q=0.1");
    let page = page.send().await.unwrap();
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert!(header(&page, "content-security-policy").contains("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("&lt;img src=x&gt;.txt") && !page.contains("<img"), "{page}");
    assert!(page.contains("href=\"/my-cms/%3Cimg%20src%3Dx%3E.txt\""), "{page}");
    let redirect = send(&house, "ann", "GET", "/my-cms").await;
    assert_eq!((redirect.status().as_u16(), header(&redirect, "location")), (308, "/my-cms/"));
}

#[tokio::test]
async fn a_caller_has_so_much_room_and_no_more() {
    let house = house(
        "live_writers = \"*\", max_file = \"1000\", quota_bytes = \"2500\", quota_files = \"4\"",
    );
    let big = |size: usize| "x".repeat(size);
    // The edge of one file, declared and not.
    assert_eq!(put(&house, "ann", "/my-cms/a.bin", &big(1000)).await.status(), 201);
    assert_eq!(put(&house, "ann", "/my-cms/b.bin", &big(1001)).await.status(), 413);
    let pieces = futures::stream::iter([Ok::<_, std::io::Error>(big(1001))]);
    let chunked = call(&house, "ann", "PUT", "/my-cms/b.bin");
    let chunked = chunked.body(reqwest::Body::wrap_stream(pieces)).send().await.unwrap();
    assert_eq!(chunked.status(), 413);
    assert_eq!(text(&house, "ann", "/my-cms/b.bin").await.0, 404);

    // The edge of all of them, here and in the shared space.
    assert_eq!(put(&house, "ann", "/live-cms/b.bin", &big(1000)).await.status(), 201);
    assert_eq!(put(&house, "ann", "/my-cms/c.bin", &big(500)).await.status(), 201);
    let full = put(&house, "ann", "/my-cms/d.bin", "x").await;
    assert_eq!(full.status(), 507);
    assert!(full.text().await.unwrap().contains("quota_bytes"));
    assert_eq!(put(&house, "bob", "/my-cms/d.bin", &big(1000)).await.status(), 201);
    let quota = json(&house, "ann", "/my-cms/?list=").await["quota"].clone();
    assert_eq!((&quota["bytes"], &quota["files"]), (&2500.into(), &3.into()), "{quota}");

    // What was deleted makes room when it is needed, and the history of what is written anew.
    assert_eq!(send(&house, "ann", "DELETE", "/my-cms/c.bin").await.status(), 204);
    assert_eq!(put(&house, "ann", "/my-cms/d.bin", &big(400)).await.status(), 201);
    assert_eq!(send(&house, "ann", "POST", "/my-cms/c.bin?restore=1").await.status(), 404);
    assert_eq!(put(&house, "ann", "/my-cms/d.bin", &big(500)).await.status(), 204);
    assert_eq!(json(&house, "ann", "/my-cms/d.bin?versions").await["versions"][1], Value::Null);

    // And so many files.
    assert_eq!(send(&house, "ann", "DELETE", "/my-cms/d.bin?purge").await.status(), 204);
    for name in ["e", "f"] {
        assert_eq!(put(&house, "ann", &format!("/my-cms/{name}"), "").await.status(), 201);
    }
    let full = put(&house, "ann", "/my-cms/g", "").await;
    assert_eq!(full.status(), 507);
    assert!(full.text().await.unwrap().contains("quota_files"));
    send(&house, "ann", "DELETE", "/my-cms/e").await;
    assert_eq!(put(&house, "ann", "/my-cms/g", "").await.status(), 201);
}

#[tokio::test]
async fn a_document_can_not_act_as_the_site_nor_a_page_elsewhere_as_its_visitor() {
    let house = house("live_writers = \"ann\"");
    for (path, kind) in
        [("evil.html", "text/html"), ("evil.svg", "image/svg+xml"), ("evil", "text/html")]
    {
        let sent = call(&house, "ann", "PUT", &format!("/live-cms/{path}"));
        let sent =
            sent.header("content-type", kind).body("<script>alert(document.cookie)</script>");
        assert_eq!(sent.send().await.unwrap().status(), 201);
        let got = send(&house, "", "GET", &format!("/live-cms/{path}")).await;
        let policy = header(&got, "content-security-policy");
        assert!(policy.starts_with("sandbox ") && !policy.contains("same-origin"), "{policy}");
        assert_eq!(header(&got, "x-content-type-options"), "nosniff");
    }
    // A browser sends the cookie of its user with what a page elsewhere asks for.
    for (origin, status) in
        [("https://evil.example", 403), ("null", 403), (house.url.as_str(), 201)]
    {
        let sent = call(&house, "", "PUT", "/my-cms/x").header("cookie", "__session=ann");
        let sent = sent.header("origin", origin).body("x").send().await.unwrap();
        assert_eq!(sent.status(), status, "{origin}");
    }
    let asked = call(&house, "", "OPTIONS", "/my-cms/x")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "authorization,x-meta-a,x-evil")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 204);
    assert_eq!(header(&asked, "access-control-allow-origin"), "*");
    assert!(header(&asked, "access-control-allow-credentials").is_empty());
    assert!(header(&asked, "access-control-allow-methods").contains("PUT"));
    let fields = header(&asked, "access-control-allow-headers");
    assert!(fields.contains("authorization") && fields.contains("if-match"), "{fields}");
    assert!(fields.contains("x-meta-a") && !fields.contains("x-evil"), "{fields}");
    let plain = send(&house, "", "OPTIONS", "/my-cms/x").await;
    assert_eq!(header(&plain, "allow"), "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS");
}

#[tokio::test]
async fn pages_may_have_a_host_of_their_own() {
    let house = house("live_writers = \"ann\", content_host = \"https://user.example:8443\"");
    put(&house, "ann", "/live-cms/p.html", "<p>p").await;
    put(&house, "ann", "/live-cms/p.png", "png").await;
    put(&house, "ann", "/my-cms/mine.html", "<p>mine").await;
    let moved = send(&house, "", "GET", "/live-cms/p").await;
    assert_eq!(moved.status(), 307);
    assert_eq!(header(&moved, "location"), "https://user.example:8443/live-cms/p.html");
    // What can't act stays, and so does what is nobody else's: in a sandbox.
    assert_eq!(send(&house, "", "GET", "/live-cms/p.png").await.status(), 200);
    let mine = send(&house, "ann", "GET", "/my-cms/mine").await;
    assert!(header(&mine, "content-security-policy").starts_with("sandbox"));
    let there = |who: &'static str, method: &'static str, path: &'static str| {
        call(&house, who, method, path).header("host", "user.example:8443").send()
    };
    let shown = there("", "GET", "/live-cms/p").await.unwrap();
    assert_eq!((shown.status().as_u16(), header(&shown, "content-security-policy")), (200, ""));
    // Nobody is anybody there.
    assert_eq!(there("ann", "GET", "/my-cms/mine").await.unwrap().status(), 401);
    assert_eq!(there("ann", "PUT", "/live-cms/p.html").await.unwrap().status(), 405);
    assert_eq!(there("ann", "GET", "/my-cms/").await.unwrap().status(), 401);
}
