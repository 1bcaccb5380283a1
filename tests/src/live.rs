//! Houses with live rooms.

use crate::{House, guest, house_folder, plugin};
use std::path::{Path, PathBuf};

/// A component of the house.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    house_folder().join(format!("plugins/{name}.wasm"))
}

/// The plugins as the reference configuration has them.
#[must_use]
pub fn config(live: &Path, rest: &str) -> String {
    let grants = "routes = [\"/mcp\", \"/api/room\"]\npeers = [\"live\"]\ncalls = [\"transpile\"]\n\
        rooms = { routes = [\"/live/{room}\", \"/live/{room}/*\", \"/api-v1/{room}/*\", \
        \"/api/room/{room}\", \"/api/room/{room}/*\"] }\n";
    plugin("live", live, &format!("{grants}{rest}"))
        + &plugin(
            "transpile",
            &component("transpile"),
            "routes = [\"/transpile\"]\nkv = [\"default\"]",
        )
}

/// A house with them, and more in the table of `live`.
#[must_use]
pub fn house(rest: &str) -> House {
    House::start(&config(&component("live"), rest))
}

/// A house whose verifier believes `Bearer good NAME`.
#[must_use]
pub fn house_with_auth(rest: &str) -> House {
    let verifier = plugin("verifier", &guest("verifier"), "instances = { reuse = 1000 }");
    let live = format!("auth = \"optional\"\n{rest}");
    House::start(&format!(
        "[auth]\nplugin = \"verifier\"\n{verifier}{}",
        config(&component("live"), &live)
    ))
}
