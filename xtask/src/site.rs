//! The sample site, as `cargo xtask run` publishes it: with a list of what runs in the house beside it.
//!
//! Owns that list, `house.json`. The house tells nobody but its operator which plugins it has, and so this is a text
//! that the operator's own command writes when it publishes, and says what was so then.

use crate::{Workspace, build::guesthouse};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The site and its list in a folder of their own.
pub(crate) fn prepare(workspace: &Workspace, admin: &str, data: &Path) -> Result<PathBuf> {
    let output = guesthouse(workspace)
        .args(["plugins", "--json", "--admin", admin, "--data"])
        .arg(data)
        .output()
        .context("the house could not be asked for its plugins")?;
    if !output.status.success() {
        bail!("guesthouse plugins: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let plugins =
        serde_json::from_slice(&output.stdout).context("guesthouse plugins gave no JSON")?;
    let list = list(&plugins, &descriptions(workspace)?);
    let folder = workspace.target.join("site");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("the last copy of the site")?;
    }
    copy(&workspace.root.join("plugins/assets/site"), &folder)?;
    std::fs::write(folder.join("house.json"), format!("{list:#}\n"))?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let there = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &there)?;
        } else {
            std::fs::copy(entry.path(), &there)
                .with_context(|| format!("{} could not be copied", entry.path().display()))?;
        }
    }
    Ok(())
}

/// What each package of the workspace says of itself.
fn descriptions(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let output =
        workspace.cargo().args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let text = |package: &Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    Ok(packages
        .filter_map(|package| Some((text(package, "name")?, text(package, "description")?)))
        .collect())
}

/// Name, routes and description of each plugin that has routes.
fn list(plugins: &Value, descriptions: &BTreeMap<String, String>) -> Value {
    let plugins = plugins.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let list = plugins.filter_map(|plugin| {
        let name = plugin.get("name")?.as_str()?;
        let routes = plugin.get("routes")?.as_array().filter(|routes| !routes.is_empty())?;
        let about = match (name, descriptions.get(name)) {
            ("playground", _) => "The page of a room: an editor, and what the code does beside it.",
            (_, Some(about)) => about,
            (_, None) => "",
        };
        Some(json!({ "name": name, "about": about, "routes": routes }))
    });
    json!({ "plugins": list.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_can_be_asked_and_what_it_is() {
        let plugins = json!({ "plugins": [
            { "name": "live", "routes": ["/mcp", "/live/{room}/*"], "grants": { "secrets": ["X"] } },
            { "name": "verifier", "routes": [] },
            { "name": "mine", "routes": ["/mine"] },
        ] });
        let about = BTreeMap::from([("live".to_owned(), "Rooms.".to_owned())]);
        assert_eq!(
            list(&plugins, &about),
            json!({ "plugins": [
                { "name": "live", "about": "Rooms.", "routes": ["/mcp", "/live/{room}/*"] },
                { "name": "mine", "about": "", "routes": ["/mine"] },
            ] })
        );
    }
}
