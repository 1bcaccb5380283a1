//! Guests of languages with a runtime of their own: JavaScript and Python.
//!
//! Owns building them with their makers' tools, which takes half a minute, and only when something changed.
//! Where a tool is missing there is no guest, and the tests that want it skip for the same reason.

use crate::Workspace;
use crate::tools::{Tools, install_once, quiet};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of WASI in `wit/deps`.
const WASI: &str = "0.2.12";
/// The version that the engine in componentize-js was built for; it looks for no other.
const WASI_OF_JAVASCRIPT: &str = "0.2.10";

pub(crate) fn guests(workspace: &Workspace, tools: &Tools) -> Result<()> {
    let sources = workspace.root.join("tests/guests");
    if let Some(node) = tools.get("GUESTHOUSE_NODE") {
        let source = sources.join("javascript/app.js");
        let made_of = [source.clone(), node.join("package-lock.json")];
        build(workspace, "javascript", WASI_OF_JAVASCRIPT, &made_of, |wit, output| {
            quiet(
                Command::new("node")
                    .args(["--preserve-symlinks", "--preserve-symlinks-main"])
                    .arg(node.join("scripts/componentize.mjs"))
                    .args([&source, wit, output]),
            )
        })?;
    }
    if let Some(python) = tools.get("GUESTHOUSE_PYTHON") {
        let folder = sources.join("python");
        let requirements = workspace.root.join("tests/clients/python/requirements.txt");
        let made_of = [folder.join("app.py"), requirements];
        build(workspace, "python", WASI, &made_of, |wit, output| {
            quiet(
                Command::new(python.with_file_name("componentize-py"))
                    .args(["--quiet", "--world", "guest", "--wit-path"])
                    .arg(wit)
                    .args(["componentize", "app", "--python-path", ".", "--output"])
                    .arg(output)
                    .current_dir(&folder),
            )
        })?;
    }
    Ok(())
}

/// Runs the maker's tool unless the guest is there and was made of the same.
fn build(
    workspace: &Workspace,
    name: &str,
    wasi: &str,
    made_of: &[PathBuf],
    make: impl FnOnce(&PathBuf, &PathBuf) -> Result<()>,
) -> Result<()> {
    let scratch = workspace.target.join("guests-build").join(name);
    let wit = scratch.join("wit");
    let mut wanted = world(workspace, wasi, &wit)?;
    for file in made_of {
        wanted += &std::fs::read_to_string(file)
            .with_context(|| format!("{} can't be read", file.display()))?;
    }
    let output = scratch.join(format!("guest_{name}.wasm"));
    install_once(&scratch, &wanted, &format!("building the guest of {name}"), || {
        make(&wit, &output)
    })?;
    crate::build::copy(&output, &workspace.guests().join(format!("guest_{name}.wasm")))
}

/// Writes `world guest { include wasi:http/proxy }` and what it stands on, in one version; the text of it all.
fn world(workspace: &Workspace, version: &str, folder: &Path) -> Result<String> {
    let vendored = workspace.root.join("wit/deps");
    let mut all =
        format!("package test:guest;\nworld guest {{ include wasi:http/proxy@{version}; }}\n");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("world.wit"), &all)?;
    let mut packages: Vec<_> = std::fs::read_dir(&vendored)?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(&format!("-{WASI}")))
        .collect();
    packages.sort_by_key(std::fs::DirEntry::file_name);
    for package in packages {
        let text = std::fs::read_to_string(package.path().join("package.wit"))?;
        let text = text.replace(WASI, version);
        let folder = folder.join("deps").join(package.file_name());
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("package.wit"), &text)?;
        all += &text;
    }
    Ok(all)
}
