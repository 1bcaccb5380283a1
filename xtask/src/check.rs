//! `cargo xtask check`: what a reader of the code would trip over.

use crate::build::{NATIVE, plugins};
use crate::policy::Policy;
use crate::{Workspace, advisories, must, prerequisites, step};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Lines of one file.
const LONGEST: usize = 650;
/// Bytes of one file in git.
const LARGEST: u64 = 1_500_000;
/// What unfinished code says of itself; in pieces, so that this file does not say it.
const UNFINISHED: [&str; 2] = [concat!("FIX", "ME"), concat!("todo", "!(")];

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    prerequisites::for_building(workspace)?;
    prerequisites::for_checking(workspace)?;
    step("formatting", || {
        must(workspace.cargo().args(["fmt", "--all", "--check"]), "`cargo fmt --check`")
    })?;
    step("lints, native", || {
        let mut cargo = workspace.cargo();
        cargo.arg("clippy").args(NATIVE).args(["--all-targets", "--", "-D", "warnings"]);
        must(&mut cargo, "clippy")
    })?;
    step("lints, components", || must(&mut lint_components(workspace)?, "clippy"))?;
    step("lints, xtask", || {
        let mut cargo = workspace.cargo();
        cargo.args(["clippy", "--package=xtask", "--all-targets", "--", "-D", "warnings"]);
        must(&mut cargo, "clippy")
    })?;
    step("contract", || {
        let mut cargo = workspace.cargo();
        cargo.arg("test").args(NATIVE).args(["--test=contract", "--quiet"]);
        must(&mut cargo, "the test of wit/")
    })?;
    let policy = Policy::read(workspace)?;
    step("licences and sources", || licences(workspace, &policy))?;
    step("advisories", || advisories::check(workspace, &policy))?;
    step("files", || files(workspace))?;
    println!("everything is in order");
    Ok(())
}

/// The plugins as they are shipped: what is compiled for wasm32-wasip2 alone is seen only here.
fn lint_components(workspace: &Workspace) -> Result<Command> {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--profile=guest", "--target=wasm32-wasip2", "--target-dir"]);
    cargo.arg(workspace.target.join("components"));
    for plugin in plugins(workspace)? {
        cargo.args(["--package", &plugin.name]);
    }
    cargo.args(["--", "-D", "warnings"]);
    Ok(cargo)
}

/// Every package that the lock file names, with its licence and source.
fn licences(workspace: &Workspace, policy: &Policy) -> Result<()> {
    let output = workspace.cargo().args(["metadata", "--format-version=1", "--locked"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context("cargo metadata gave no JSON: is Cargo.lock up to date?")?;
    let wrong = policy.violations(&metadata);
    if !wrong.is_empty() {
        bail!("dependencies that can't be used:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn files(workspace: &Workspace) -> Result<()> {
    let output =
        Command::new("git").args(["ls-files", "-z"]).current_dir(&workspace.root).output()?;
    let mut wrong = Vec::new();
    for name in String::from_utf8_lossy(&output.stdout).split('\0').filter(|name| !name.is_empty())
    {
        let path = workspace.root.join(name);
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.len() > LARGEST {
            wrong.push(format!("{name} has {} bytes: should it be in git?", metadata.len()));
        }
        if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path)?;
            if let Some(mark) = UNFINISHED.iter().find(|mark| text.contains(**mark)) {
                wrong.push(format!("{name} has `{mark}`: finish it, or file an issue"));
            }
            let lines = text.lines().count();
            if lines > LONGEST {
                wrong
                    .push(format!("{name} has {lines} lines: does it have two reasons to change?"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}
