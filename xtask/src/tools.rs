//! What the tests need beside Rust: clients and toolchains of others.
//!
//! Owns installing them into the target folder, once for each lock file, and telling the tests where they are.
//! A tool that can't be had never fails the others' tests: the tests that want it are told why it is missing,
//! and skip loudly. The danger is a half-finished installation that looks whole: what was installed is written
//! down last, and what does not match is installed anew.

use crate::prerequisites::{self, CHROMIUM, COTURN, LITMUS, NODE, PYTHON, Package};
use crate::{Workspace, step};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program is.
type Find = fn() -> Option<PathBuf>;

/// Programs of the system that tests run: the variable that names it, the package that has it, and where it
/// then is. A test that needs another one adds a line here.
const PROGRAMS: [(&str, Package, Find); 3] = [
    ("GUESTHOUSE_CHROMIUM", CHROMIUM, prerequisites::chromium),
    ("GUESTHOUSE_TURNUTILS", COTURN, prerequisites::turnutils),
    ("GUESTHOUSE_LITMUS", LITMUS, prerequisites::litmus),
];

/// Written when an installation is whole: what it was made from.
const STAMP: &str = ".guesthouse-installed";

/// What there is, as variables for the tests.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    variables: Vec<(String, PathBuf)>,
    missing: Vec<(String, String)>,
}

impl Tools {
    /// Installs what is not there yet.
    pub(crate) fn prepare(workspace: &Workspace) -> Self {
        let mut tools = Self::default();
        tools.add("GUESTHOUSE_NODE", node(workspace));
        tools.add("GUESTHOUSE_SOURCES", sources(workspace));
        tools.add("GUESTHOUSE_PYTHON", python(workspace));
        for (variable, package, find) in PROGRAMS {
            let installed = prerequisites::install(&[package]);
            tools.add(
                variable,
                installed.and_then(|()| find().context("the package was installed without it")),
            );
        }
        tools
    }

    fn add(&mut self, variable: &str, found: Result<PathBuf>) {
        match found {
            Ok(path) => self.variables.push((variable.to_owned(), path)),
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("— tests that want {variable} will be skipped: {why}");
                self.missing.push((format!("{variable}_MISSING"), one_line(&why)));
            }
        }
    }

    /// Where a tool is, by its variable.
    pub(crate) fn get(&self, variable: &str) -> Option<&Path> {
        self.variables.iter().find(|(name, _)| name == variable).map(|(_, path)| path.as_path())
    }

    /// Tells a test runner.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, path)| (name, path)));
        command.envs(self.missing.iter().map(|(name, why)| (name, why)));
    }

    /// For a shell that runs single tests by hand.
    pub(crate) fn print(&self, workspace: &Workspace) {
        println!("export GUESTHOUSE_HOUSE='{}'", workspace.house().display());
        println!("export GUESTHOUSE_GUESTS='{}'", workspace.guests().display());
        for (name, path) in &self.variables {
            println!("export {name}='{}'", path.display());
        }
    }
}

/// The reason goes into a variable and from there into one line of a test's output.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The folder that has `node_modules`, and the scripts of the tests as `scripts`.
fn node(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root.join("tests/clients/node");
    let folder = workspace.target.join("clients/node");
    npm(&source, &folder, "installing the npm packages of the tests")?;
    Ok(folder)
}

/// Installs what the lock file in `source` names into `folder/node_modules`, with `source` as `folder/scripts`.
pub(crate) fn npm(source: &Path, folder: &Path, what: &str) -> Result<()> {
    prerequisites::install(&[NODE])?;
    let read = |name: &str| {
        let path = source.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
    };
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    let version = output_of(Command::new("node").arg("--version"))?;
    let wanted = [version.as_str(), package.as_str(), lock.as_str()].concat();
    install_once(folder, &wanted, what, || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("package.json"), &package)?;
        std::fs::write(folder.join("package-lock.json"), &lock)?;
        quiet(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(folder),
        )
    })?;
    // Node looks for packages beside a script. With `--preserve-symlinks` this place is beside it, and what is
    // edited in the sources is what runs.
    let scripts = folder.join("scripts");
    if std::fs::read_link(&scripts).is_ok_and(|target| target != source) {
        std::fs::remove_file(&scripts)?;
    }
    if !scripts.exists() {
        std::os::unix::fs::symlink(source, &scripts)
            .with_context(|| format!("{} could not be linked", scripts.display()))?;
    }
    Ok(())
}

/// The folder that has `node_modules` with packages that ship their TypeScript sources.
fn sources(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root.join("tests/clients/sources");
    let folder = workspace.target.join("clients/sources");
    npm(&source, &folder, "installing the packages whose sources are transpiled")?;
    Ok(folder)
}

/// The interpreter of the tests' own environment.
fn python(workspace: &Workspace) -> Result<PathBuf> {
    prerequisites::install(&[PYTHON])?;
    let requirements = workspace.root.join("tests/clients/python/requirements.txt");
    let folder = workspace.target.join("clients/python");
    let text = std::fs::read_to_string(&requirements)
        .with_context(|| format!("{} can't be read", requirements.display()))?;
    let version = output_of(Command::new("python3").arg("--version"))?;
    let interpreter = folder.join("bin/python");
    let wanted = [version.as_str(), text.as_str()].concat();
    install_once(&folder, &wanted, "installing the PyPI packages of the tests", || {
        quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        quiet(
            Command::new(&interpreter)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&requirements),
        )
    })?;
    Ok(interpreter)
}

/// Installs unless the folder's stamp says that just this is there.
pub(crate) fn install_once(
    folder: &Path,
    wanted: &str,
    what: &str,
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = folder.join(STAMP);
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    _ = std::fs::remove_file(&stamp);
    step(what, install)?;
    std::fs::write(&stamp, wanted).with_context(|| format!("{} can't be written", stamp.display()))
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} could not be started"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows what it said only when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output_of(command).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_installed_once_and_again_when_the_wish_changes() {
        let folder = std::env::temp_dir().join(format!("guesthouse-tools-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut runs = 0;
        let mut wish = |wanted: &str, fails: bool| {
            let result = install_once(&folder, wanted, "testing", || {
                runs += 1;
                if fails { bail!("no network") } else { Ok(()) }
            });
            (result.is_ok(), runs)
        };
        assert_eq!(wish("a", false), (true, 1));
        assert_eq!(wish("a", false), (true, 1), "it was there");
        assert_eq!(wish("b", true), (false, 2), "a failure is told");
        assert_eq!(wish("b", false), (true, 3), "and not taken for an installation");
        assert_eq!(wish("a", false), (true, 4));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_reason_fits_in_one_line() {
        assert_eq!(one_line("lacks x.\n\n    sudo sh\n"), "lacks x. sudo sh");
    }
}
