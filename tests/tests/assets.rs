//! A site, published by the command line and served by the component.

use guesthouse_tests::{House, house_folder, plugin};
use rand::RngCore;
use std::path::Path;

fn house(cache: bool) -> House {
    let rest = format!(
        "routes = [\"/*\"]\nkv = [\"assets\"]\ncache = {cache}\ninstances = {{ reuse = 1000 }}"
    );
    House::start(&plugin("assets", &house_folder().join("plugins/assets.wasm"), &rest))
}

fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn encode(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

async fn get(house: &House, path: &str) -> reqwest::Response {
    reqwest::get(format!("{}{path}", house.url)).await.unwrap()
}

#[tokio::test]
async fn five_hundred_files_come_back_byte_for_byte_by_every_url() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = rand::rng();
    let mut files = Vec::new();
    let odd = [
        "with space.txt",
        "ünïcode/ß.html",
        "100%.txt",
        "a+b&c.js",
        "q?x.css",
        "deep/er/est/x.json",
        "empty.txt",
    ];
    for number in 0..500_usize {
        let path = odd
            .get(number)
            .map_or_else(|| format!("dir{}/file{number}.bin", number % 7), |p| (*p).to_owned());
        let size = match number {
            6 => 0,
            7 => 25 << 20,
            8 => 65_536,
            9 => 65_537,
            10 => (256 << 10) + 1,
            _ => number * 13,
        };
        let mut bytes = vec![0; size];
        random.fill_bytes(&mut bytes);
        write(folder.path(), &path, &bytes);
        files.push((path, bytes));
    }
    let house = house(false);
    house.publish(folder.path());
    let manifest: serde_json::Value = get(&house, "/ASSET_MANIFEST").await.json().await.unwrap();
    let version: serde_json::Value = get(&house, "/swVersion.json").await.json().await.unwrap();
    let hash = version["swVersion"].as_str().unwrap();
    assert_eq!(manifest.as_object().unwrap().len(), 500);
    for (path, bytes) in &files {
        let answer = get(&house, &format!("/{}", encode(path))).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        assert!(answer.bytes().await.unwrap() == *bytes, "{path} differs");
    }
    for (path, bytes) in files.iter().take(20) {
        let name = manifest[path].as_str().unwrap();
        for url in [format!("/{hash}/{}", encode(path)), format!("/{}", encode(name))] {
            let answer = get(&house, &url).await;
            assert!(
                answer.headers()["cache-control"].to_str().unwrap().contains("immutable"),
                "{url}"
            );
            assert!(answer.bytes().await.unwrap() == *bytes, "{url} differs");
        }
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_by_name_and_nothing_is_switched() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "index.html", b"first");
    let house = house(true);
    house.publish(folder.path());
    write(folder.path(), "index.html", b"second");
    write(folder.path(), "huge.bin", &vec![7; (25 << 20) + 1]);
    let (code, text) = house.run(&["assets", "publish", folder.path().to_str().unwrap()]);
    assert_ne!(code, 0);
    assert!(text.contains("huge.bin") && text.contains("storage.max_value"), "{text}");
    assert_eq!(get(&house, "/").await.text().await.unwrap(), "first");
}

#[tokio::test]
async fn publishing_again_sends_only_what_changed_and_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "index.html", b"<p>one</p>");
    write(folder.path(), "same.txt", b"same");
    let house = house(true);
    house.publish(folder.path());
    for _ in 0..2 {
        assert_eq!(get(&house, "/").await.text().await.unwrap(), "<p>one</p>");
    }
    let asked = house.api("/v1/plugins/assets")["version"]["requests"].clone();
    let hit = get(&house, "/").await;
    assert_eq!(hit.headers()["cache-status"], "guesthouse; hit");
    assert!(!hit.headers().contains_key("guesthouse-cache-control"));
    assert_eq!(
        house.api("/v1/plugins/assets")["version"]["requests"],
        asked,
        "a hit asked the plugin"
    );

    write(folder.path(), "index.html", b"<p>two</p>");
    let (_, text) = house.run(&["assets", "publish", folder.path().to_str().unwrap()]);
    assert!(text.contains("new        1 ") && text.contains("unchanged  1"), "{text}");
    assert_eq!(get(&house, "/").await.text().await.unwrap(), "<p>two</p>");
}

#[tokio::test]
async fn conditions_ranges_and_encodings_work_with_and_without_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let text = "all work and no play ".repeat(500);
    write(folder.path(), "play.txt", text.as_bytes());
    for cache in [false, true] {
        let house = house(cache);
        house.publish(folder.path());
        let client = reqwest::Client::new();
        let ask = || client.get(format!("{}/play.txt", house.url));
        for _ in 0..2 {
            let whole = ask().send().await.unwrap();
            assert_eq!(whole.headers()["content-type"], "text/plain; charset=utf-8");
            assert_eq!(whole.headers()["vary"], "Accept-Encoding");
            let (tag, date) =
                (whole.headers()["etag"].clone(), whole.headers()["last-modified"].clone());
            assert_eq!(whole.text().await.unwrap(), text);
            let same = ask().header("if-none-match", &tag).send().await.unwrap();
            assert_eq!(same.status(), 304);
            assert_eq!(
                ask().header("if-modified-since", &date).send().await.unwrap().status(),
                304
            );
            let part =
                ask().header("range", "bytes=4-7").header("if-range", &tag).send().await.unwrap();
            assert_eq!(part.status(), 206);
            assert_eq!(part.headers()["content-range"], format!("bytes 4-7/{}", text.len()));
            assert_eq!(part.text().await.unwrap(), "work");
            assert_eq!(ask().header("range", "bytes=999999-").send().await.unwrap().status(), 416);
            let packed = ask().header("accept-encoding", "br").send().await.unwrap();
            assert_eq!(packed.headers()["content-encoding"], "br");
            let mut plain = Vec::new();
            let packed = packed.bytes().await.unwrap();
            std::io::Read::read_to_end(
                &mut brotli::Decompressor::new(&packed[..], 4096),
                &mut plain,
            )
            .unwrap();
            assert_eq!(plain, text.as_bytes());
            let head = client.head(format!("{}/play.txt", house.url)).send().await.unwrap();
            assert_eq!(head.headers()["content-length"], text.len().to_string());
            let post = client.post(format!("{}/play.txt", house.url)).send().await.unwrap();
            assert_eq!((post.status().as_u16(), post.headers().contains_key("allow")), (405, true));
        }
        assert_eq!(get(&house, "/constructor").await.status(), 404);
    }
}

#[tokio::test]
async fn a_published_site_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "index.html", b"still here");
    let house = house(true);
    house.publish(folder.path());
    let house = house.crash_and_restart();
    assert_eq!(get(&house, "/").await.text().await.unwrap(), "still here");
}

#[tokio::test]
async fn what_the_service_worker_reads_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "index.html", b"<p>page</p>");
    write(folder.path(), "start.mjs", b"export default 1;");
    let house = house(true);
    house.publish(folder.path());
    let manifest = get(&house, "/ASSET_MANIFEST").await;
    assert_eq!(manifest.headers()["content-type"], "application/json");
    let hash = manifest.headers()["x-hash"].to_str().unwrap().to_owned();
    let manifest = manifest.text().await.unwrap();
    let module = format!("export const swVersion = \"{hash}\" ;");
    let json = format!("{{\"swVersion\":\"{hash}\"}}");
    let files = manifest.trim_end_matches('}').to_owned()
        + &format!(",\"swVersion.mjs\":\"swVersion.{hash}.mjs\"}}");
    let script = format!("self.swVersion = \"{hash}\"; self.files= {files};");
    let client = reqwest::Client::new();
    for (path, kind, body) in [
        ("/swVersion.mjs".to_owned(), "application/javascript", &module),
        ("/@/lib/swVersion.mjs".to_owned(), "application/javascript", &module),
        (format!("/swVersion.{hash}.mjs"), "application/javascript", &module),
        (format!("/{hash}/swVersion.mjs"), "application/javascript", &module),
        ("/swVersion.json".to_owned(), "application/json", &json),
        ("/swVersion.js".to_owned(), "application/javascript", &script),
        ("/ASSET_MANIFEST".to_owned(), "application/json", &manifest),
    ] {
        // From the plugin, and then from the cache.
        for _ in 0..2 {
            let answer = get(&house, &path).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()["content-type"], kind, "{path}");
            assert_eq!(answer.headers()["x-hash"], hash.as_str(), "{path}");
            assert_eq!(&answer.text().await.unwrap(), body, "{path}");
        }
        let head = client.head(format!("{}{path}", house.url)).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], body.len().to_string(), "{path}");
        let tag = head.headers()["etag"].clone();
        let same = client.get(format!("{}{path}", house.url)).header("if-none-match", tag);
        assert_eq!(same.send().await.unwrap().status(), 304, "{path}");
    }

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let config = get(&house, "/sw-config.json").await;
    assert_eq!(config.headers()["content-type"], "application/json");
    let config: serde_json::Value = config.json().await.unwrap();
    assert_eq!(config["killSwitch"], false);
    assert_eq!(config["version"], "v16");
    assert_eq!(config["swVersion"], hash.as_str());
    let valid = u128::from(config["valid"].as_u64().unwrap());
    assert!(valid >= now.as_millis() + 3_600_000, "{valid} is less than an hour from now");
}

#[tokio::test]
async fn two_who_publish_at_once_don_t_undo_each_other() {
    let house = house(true);
    let folders: Vec<_> = (0..4)
        .map(|number| {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), "index.html", format!("by {number}").as_bytes());
            folder
        })
        .collect();
    let codes: Vec<(i32, String)> = std::thread::scope(|scope| {
        let publish = |folder: &tempfile::TempDir| {
            let path = folder.path().to_str().unwrap().to_owned();
            let house = &house;
            scope.spawn(move || house.run(&["assets", "publish", &path]))
        };
        let running: Vec<_> = folders.iter().map(publish).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let served = get(&house, "/").await.text().await.unwrap();
    let winner: usize = served.trim_start_matches("by ").parse().unwrap();
    assert_eq!(codes[winner].0, 0, "the site is not of one who was told that it is: {codes:?}");
    for (code, text) in codes.iter().filter(|(code, _)| *code != 0) {
        assert_eq!(*code, 3, "{text}");
        assert!(text.contains("someone else published"), "{text}");
    }
}

#[tokio::test]
async fn files_of_old_releases_stay_for_old_pages_and_are_collected_later() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(true);
    let mut names = Vec::new();
    for number in 0..4 {
        write(folder.path(), "app.mjs", format!("export default {number};").as_bytes());
        house.publish(folder.path());
        let manifest: serde_json::Value =
            get(&house, "/ASSET_MANIFEST").await.json().await.unwrap();
        names.push(manifest["app.mjs"].as_str().unwrap().to_owned());
    }
    let kept = house.run(&["kv", "list", "assets", "--prefix", "file/"]).1;
    assert_eq!(kept.lines().filter(|line| line.contains("file/")).count(), 3, "{kept}");
    let newest = get(&house, &format!("/{}", names[3])).await;
    assert_eq!(newest.text().await.unwrap(), "export default 3;");
    assert_eq!(get(&house, &format!("/{}", names[0])).await.status(), 404);
    // A page that was loaded before the last two publications still finds its script.
    for number in [1, 2] {
        let old = get(&house, &format!("/{}", names[number])).await;
        assert_eq!(old.status(), 200, "release {number}");
        assert_eq!(old.text().await.unwrap(), format!("export default {number};"));
    }
}
