//! A real browser.

use guesthouse_tests::{House, clients, house_folder, plugin};
use std::path::Path;

#[test]
fn the_sample_site_loads_in_a_browser_without_an_error() {
    if clients::chromium().is_none() {
        return;
    }
    let rest = "routes = [\"/*\"]\nkv = [\"assets\"]\ncache = true\ninstances = { reuse = 1000 }";
    let component = house_folder().join("plugins/assets.wasm");
    let house = House::start(&plugin("assets", &component, rest));
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/assets/site");
    house.publish(&site);

    // `GUESTHOUSE_SCREENSHOT` keeps the picture: the one in docs/images was made so.
    let folder = tempfile::tempdir().unwrap();
    let screenshot = std::env::var("GUESTHOUSE_SCREENSHOT")
        .unwrap_or_else(|_| folder.path().join("site.png").to_str().unwrap().to_owned());
    let url = format!("{}/", house.url);
    let Some(output) = clients::node("site.mjs", &[&url, &screenshot]) else { return };
    let found: serde_json::Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert_eq!(found["wrong"], serde_json::json!([]), "{found}");
    assert_eq!(found["dead"], serde_json::json!([]), "{found}");
    assert_eq!(found["title"], "Guesthouse");
    assert_eq!(found["hash"].as_str().unwrap().len(), 8);
    assert_eq!(found["files"], 8);
    assert!(found["docs"].as_str().unwrap().contains("plugin"), "{found}");
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 10_000);
}
