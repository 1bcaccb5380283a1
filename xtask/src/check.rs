//! `cargo xtask check`: what a reader of the code would trip over.

use crate::build::NATIVE;
use crate::{Workspace, must, prerequisites, step};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Licences that a dependency may have, as SPDX names: permissive ones, and those of data and of fonts that
/// ask for nothing but a notice.
const LICENCES: [&str; 14] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
    "Unlicense",
    "MIT-0",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];
/// Lines of one file.
const LONGEST: usize = 650;
/// Bytes of one file in git.
const LARGEST: u64 = 1_500_000;

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
    step("lints, xtask", || {
        let mut cargo = workspace.cargo();
        cargo.args(["clippy", "--package=xtask", "--all-targets", "--", "-D", "warnings"]);
        must(&mut cargo, "clippy")
    })?;
    step("licences and sources", || licences(workspace))?;
    step("files", || files(workspace))?;
    println!("everything is in order");
    Ok(())
}

fn licences(workspace: &Workspace) -> Result<()> {
    let output = workspace.cargo().args(["metadata", "--format-version=1", "--locked"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context("cargo metadata gave no JSON: is Cargo.lock up to date?")?;
    let mut wrong = Vec::new();
    for package in metadata.get("packages").and_then(|p| p.as_array()).into_iter().flatten() {
        let text =
            |key: &str| package.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let source = text("source");
        let name = format!("{} {}", text("name"), text("version"));
        if !source.is_empty() && !source.starts_with("registry+") {
            wrong.push(format!("{name} comes from {source}, not from the registry"));
        }
        if !source.is_empty() && !is_allowed(text("license")) {
            wrong.push(format!("{name} has the licence `{}`", text("license")));
        }
    }
    if !wrong.is_empty() {
        bail!("dependencies that can't be used:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Whether one of the alternatives of an SPDX expression is allowed whole.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    // Without brackets, `A OR B AND C` reads as more than it says only if both B and C are asked for in a
    // bracket; requiring every part of an alternative is then the stricter reading.
    !expression.is_empty()
        && expression.split(" OR ").any(|alternative| {
            alternative.split(" AND ").all(|licence| LICENCES.contains(&licence.trim()))
        })
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
            let lines = std::fs::read_to_string(&path)?.lines().count();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alternative_must_be_allowed_whole() {
        for allowed in
            ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"]
        {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in ["GPL-3.0", "", "MIT AND GPL-3.0", "LGPL-2.1 OR AGPL-3.0"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
