#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

fn site() -> Site {
    let mut files = serde_json::Map::new();
    let mut manifest = serde_json::Map::new();
    for (path, size) in [
        ("index.html", 100),
        ("app.mjs", 50),
        ("docs/index.html", 10),
        ("a b.txt", 5),
        ("100%.txt", 4),
        ("empty.txt", 0),
        ("404.html", 20),
    ] {
        let name = path.replacen('.', ".0123456789.", 1);
        manifest.insert(path.to_owned(), name.clone().into());
        files.insert(
            path.to_owned(),
            serde_json::json!({
                "name": name, "sha256": format!("{:0>64}", path.len()), "size": size, "modified": 1_000_000,
                "encodings": if path == "app.mjs" { serde_json::json!({"br": 20, "gzip": 25}) } else { serde_json::json!({}) },
            }),
        );
    }
    let manifest = serde_json::Value::Object(manifest).to_string();
    let release = serde_json::json!({"manifest": manifest, "files": files});
    Site::new(release.to_string().as_bytes(), None).unwrap()
}

fn get(path: &str) -> Ask {
    Ask { method: "GET".into(), path: path.into(), now_ms: 5, ..Ask::default() }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

fn status(path: &str) -> u16 {
    answer(&site(), &get(path)).status
}

#[test]
fn the_endpoints_have_their_exact_bodies_and_types() {
    let site = site();
    let hash = site.hash.clone();
    for (path, kind, body) in [
        (
            "/swVersion.mjs",
            "application/javascript",
            format!("export const swVersion = \"{hash}\" ;"),
        ),
        (
            "/@/lib/swVersion.mjs",
            "application/javascript",
            format!("export const swVersion = \"{hash}\" ;"),
        ),
        ("/swVersion.json", "application/json", format!("{{\"swVersion\":\"{hash}\"}}")),
        (
            "/sw-config.json",
            "application/json",
            format!(
                "{{\"killSwitch\":false,\"version\":\"v16\",\"swVersion\":\"{hash}\",\"valid\":3600005}}"
            ),
        ),
        ("/ASSET_MANIFEST", "application/json", site.manifest.clone()),
    ] {
        let reply = answer(&site, &get(path));
        assert_eq!((reply.status, header(&reply, "content-type")), (200, Some(kind)), "{path}");
        assert_eq!(reply.content, Content::Text(body), "{path}");
    }
    for path in [format!("/swVersion.{hash}.mjs"), format!("/{hash}/swVersion.mjs")] {
        let reply = answer(&site, &get(&path));
        assert_eq!(reply.content, answer(&site, &get("/swVersion.mjs")).content, "{path}");
        assert_eq!(header(&reply, "cache-control"), Some(IMMUTABLE), "{path}");
    }
    assert_eq!(status("/swVersion.abcdefgh.mjs"), 404, "another release's");
    let Content::Text(js) = answer(&site, &get("/swVersion.js")).content else { panic!() };
    assert!(js.starts_with(&format!("self.swVersion = \"{hash}\"; self.files= {{")), "{js}");
    assert!(js.ends_with(&format!("\"swVersion.mjs\":\"swVersion.{hash}.mjs\"}};")), "{js}");
}

#[test]
fn a_file_is_found_by_path_by_release_and_by_name() {
    let site = site();
    for (path, immutable) in [
        ("/app.mjs".to_owned(), false),
        (format!("/{}/app.mjs", site.hash), true),
        ("/app.0123456789.mjs".to_owned(), true),
    ] {
        let reply = answer(&site, &get(&path));
        assert_eq!(reply.status, 200, "{path}");
        let cache = header(&reply, "cache-control").unwrap();
        assert_eq!(cache.contains("immutable"), immutable, "{path}");
        assert_eq!(header(&reply, "content-type"), Some("application/javascript; charset=utf-8"));
    }
}

#[test]
fn directories_have_an_index_and_paths_are_decoded_once() {
    for path in ["/", "/docs/", "/docs", "/a%20b.txt", "/100%25.txt", "/100%.txt"] {
        assert_eq!(status(path), 200, "{path}");
    }
    for path in [
        "/constructor",
        "/toString",
        "/a%2520b.txt",
        "/../index.html",
        "/docs/%2e%2e/app.mjs",
        "/nope",
    ] {
        assert_eq!(status(path), 404, "{path}");
    }
}

#[test]
fn a_missing_page_shows_the_error_page_with_its_status() {
    let reply = answer(&site(), &get("/nope"));
    assert_eq!(reply.status, 404);
    assert!(matches!(reply.content, Content::File { length: 20, .. }));
}

#[test]
fn the_single_page_fallback_is_for_pages_and_not_for_files() {
    let mut site = site();
    site.spa = Some("index.html".into());
    assert_eq!(answer(&site, &get("/some/page")).status, 200);
    assert_eq!(answer(&site, &get("/missing.js")).status, 404);
}

#[test]
fn conditions_give_304_and_ranges_206() {
    let site = site();
    let whole = answer(&site, &get("/app.mjs"));
    let tag = header(&whole, "etag").unwrap().to_owned();
    let ask = |change: &dyn Fn(&mut Ask)| {
        let mut ask = get("/app.mjs");
        change(&mut ask);
        answer(&site, &ask)
    };
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
        let reply = ask(&|ask| ask.if_none_match = Some(tags.clone()));
        assert_eq!((reply.status, &reply.content), (304, &Content::None), "{tags}");
    }
    let date = header(&whole, "last-modified").unwrap().to_owned();
    assert_eq!(ask(&|ask| ask.if_modified_since = Some(date.clone())).status, 304);
    let part = ask(&|ask| ask.range = Some("bytes=10-19".into()));
    assert_eq!(header(&part, "content-range"), Some("bytes 10-19/50"));
    assert!(matches!(part.content, Content::File { offset: 10, length: 10, .. }));
    assert_eq!(ask(&|ask| ask.range = Some("bytes=50-".into())).status, 416);
    let stale = ask(&|ask| {
        ask.range = Some("bytes=1-2".into());
        ask.if_range = Some("\"other\"".into());
    });
    assert_eq!(stale.status, 200);
}

#[test]
fn a_compressed_variant_is_chosen_and_named() {
    let mut ask = get("/app.mjs");
    ask.accept_encoding = Some("gzip, br".into());
    let reply = answer(&site(), &ask);
    assert_eq!(header(&reply, "content-encoding"), Some("br"));
    assert_eq!(header(&reply, "vary"), Some("Accept-Encoding"));
    assert_eq!(header(&reply, "content-length"), Some("20"));
    assert!(matches!(reply.content, Content::File { ref key, .. } if key.ends_with(".br")));
}

#[test]
fn other_methods_are_refused_and_head_has_no_body() {
    let mut ask = get("/app.mjs");
    ask.method = "POST".into();
    let reply = answer(&site(), &ask);
    assert_eq!((reply.status, header(&reply, "allow")), (405, Some("GET, HEAD, OPTIONS")));
    ask.method = "HEAD".into();
    let reply = answer(&site(), &ask);
    assert_eq!((reply.status, reply.content.clone()), (200, Content::None));
    assert_eq!(header(&reply, "content-length"), Some("50"));
}

proptest! {
    #[test]
    fn no_request_makes_it_panic_or_leave_the_index(path in ".*", range in ".*", tag in ".*") {
        let site = site();
        for path in [path.clone(), format!("/{path}")] {
            let ask = Ask { range: Some(range.clone()), if_range: Some(tag.clone()), ..get(&path) };
            if let Content::File { offset, length, .. } = answer(&site, &ask).content {
                prop_assert!(offset + length <= 100);
            }
        }
    }
}

#[test]
fn a_former_release_is_found_by_its_hash_and_by_content_only() {
    let (mut now, before) = (site(), {
        let release = serde_json::json!({
            "manifest": "{\"gone.mjs\":\"gone.aaaaaaaaaa.mjs\"}",
            "files": {"gone.mjs": {
                "name": "gone.aaaaaaaaaa.mjs", "sha256": "f".repeat(64), "size": 3, "modified": 1,
            }},
        });
        Site::new(release.to_string().as_bytes(), None).unwrap()
    });
    let of_release = format!("/{}/gone.mjs", before.hash);
    for path in ["/gone.aaaaaaaaaa.mjs", of_release.as_str()] {
        assert!(asks_for_older(&now, path), "{path}");
        assert_eq!(answer(&now, &get(path)).status, 404, "{path}");
    }
    for path in ["/gone.mjs", "/index.html", "/nope.html", "/", "/app.0123456789.mjs"] {
        assert!(!asks_for_older(&now, path), "{path}");
    }
    now.older = Some(vec![before]);
    for path in ["/gone.aaaaaaaaaa.mjs", of_release.as_str()] {
        let reply = answer(&now, &get(path));
        assert_eq!(
            (reply.status, header(&reply, "cache-control")),
            (200, Some(IMMUTABLE)),
            "{path}"
        );
    }
    assert_eq!(answer(&now, &get("/gone.mjs")).status, 404, "it is not of today's site");
}
