//! The pages of live rooms, in a real browser.

use guesthouse_tests::clients::{chromium, finish, node_command, skip, text_of};
use guesthouse_tests::live::{component, config};
use guesthouse_tests::{House, house_folder, plugin};
use std::path::Path;

/// A house with live rooms and the playground, as the reference configuration has them.
fn house_with_playground(live: &str, rest: &str) -> Option<House> {
    let pages = house_folder().join("playground");
    if !pages.exists() {
        skip("the playground was not built: it wants Node.js");
        return None;
    }
    let playground = plugin(
        "playground",
        &component("assets"),
        "routes = [\"/live/{room}\", \"/playground/*\"]\nkv = [\"playground\"]\n\
         config = { namespace = \"playground\", spa = \"index.html\" }\n",
    );
    let live = config(&component("live"), live).replace("\"/live/{room}\", ", "");
    let house = House::start(&(live + &playground + rest));
    publish(&house, "playground", &pages);
    Some(house)
}

fn publish(house: &House, plugin: &str, folder: &Path) {
    let folder = folder.to_str().unwrap();
    let (code, text) = house.run(&["assets", "publish", "--plugin", plugin, folder]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_edit_one_room_and_see_each_other_and_what_the_code_does() {
    let Some(chromium) = chromium() else { return };
    let Some(house) = tokio::task::block_in_place(|| house_with_playground("", "")) else { return };
    let Some(mut command) = node_command("live-browser.mjs") else { return };
    command.env("HOUSE", &house.url).env("GUESTHOUSE_CHROMIUM", chromium);
    println!("{}", text_of(&finish(&mut command)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_serves_offline_by_keyboard_on_a_telephone_and_where_one_may_only_read() {
    let Some(chromium) = chromium() else { return };
    let start = |live| tokio::task::block_in_place(|| house_with_playground(live, ""));
    let Some(house) = start("") else { return };
    let Some(reader) = start("config = { anonymous = \"read\" }") else { return };
    let Some(mut command) = node_command("live-playground.mjs") else { return };
    command
        .env("HOUSE", &house.url)
        .env("READER", &reader.url)
        .env("GUESTHOUSE_CHROMIUM", chromium);
    println!("{}", text_of(&finish(&mut command)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_page_of_a_house_says_what_runs_and_leads_to_a_new_room() {
    let Some(chromium) = chromium() else { return };
    let assets = plugin("assets", &component("assets"), "routes = [\"/*\"]\nkv = [\"assets\"]\n");
    let Some(house) = tokio::task::block_in_place(|| house_with_playground("", &assets)) else {
        return;
    };
    // As `cargo xtask run` publishes it.
    let folder = tempfile::tempdir().unwrap();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/assets/site");
    for name in ["index.html", "app.mjs", "style.css", "favicon.svg"] {
        std::fs::copy(site.join(name), folder.path().join(name)).unwrap();
    }
    let list = serde_json::json!({ "plugins": [
        { "name": "assets", "about": "Serves a published site from KV.", "routes": ["/*"] },
        { "name": "live", "about": "Rooms.", "routes": ["/mcp", "/api/room", "/live/{room}/*"] },
        { "name": "playground", "about": "The page of a room.", "routes": ["/live/{room}"] },
    ] });
    std::fs::write(folder.path().join("house.json"), list.to_string()).unwrap();
    publish(&house, "assets", folder.path());
    let screenshot = std::env::var("GUESTHOUSE_SCREENSHOT")
        .unwrap_or_else(|_| folder.path().join("first.png").display().to_string());
    let Some(mut command) = node_command("site-rooms.mjs") else { return };
    command.arg(format!("{}/", house.url)).arg(screenshot).env("GUESTHOUSE_CHROMIUM", chromium);
    println!("{}", text_of(&finish(&mut command)));
}
