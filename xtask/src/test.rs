//! `cargo xtask test`: every test.

use crate::build::{NATIVE, Profile, build, guests};
use crate::tools::Tools;
use crate::{Workspace, languages, step};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// What the runners said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What a person should install.
    skips: Vec<String>,
}

impl Tally {
    /// Reads a line of a test runner.
    fn read(&mut self, line: &str) {
        if let Some(result) = line.trim().strip_prefix("test result:") {
            for part in result.split(['.', ';']) {
                let mut words = part.split_whitespace();
                let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
                let Ok(number) = number.parse::<u64>() else { continue };
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.skipped += number,
                    _ => {}
                }
            }
        } else if let Some((_, why)) = line.split_once("SKIPPED: ") {
            self.skipped += 1;
            self.skips.push(why.to_owned());
        }
    }
}

pub(crate) fn test(workspace: &Workspace, filter: &[String]) -> Result<()> {
    build(workspace, Profile::Release)?;
    guests(workspace)?;
    let tools = Tools::prepare(workspace);
    languages::guests(workspace, &tools)?;
    let mut tally = Tally::default();
    let mut cargo = workspace.cargo();
    cargo
        .arg("test")
        .args(NATIVE)
        .arg("--no-fail-fast")
        .arg("--")
        .args(filter)
        .env("GUESTHOUSE_HOUSE", workspace.house())
        .env("GUESTHOUSE_GUESTS", workspace.guests())
        .stdout(Stdio::piped());
    tools.tell(&mut cargo);
    let native = step("running the tests", || run(&mut cargo, &mut tally))?;
    // What these plugins are made of brings macros with other features than the house's. In the folder of the
    // components they are built apart, and nothing else is compiled again because of them.
    let mut cargo = workspace.cargo();
    cargo.args([
        "test",
        "--release",
        "--package=auth",
        "--package=live",
        "--package=short-hash",
        "--package=turn",
    ]);
    cargo.arg("--target-dir");
    cargo.arg(workspace.target.join("components")).arg("--").args(filter).stdout(Stdio::piped());
    let apart = step("running the tests of the plugins auth, live and turn", || {
        run(&mut cargo, &mut tally)
    })?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--package=xtask", "--"]).args(filter).stdout(Stdio::piped());
    let own = step("running the tests of xtask", || run(&mut cargo, &mut tally))?;

    println!();
    for why in &tally.skips {
        println!("SKIPPED: {why}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if !native || !apart || !own || tally.failed > 0 {
        bail!("tests failed");
    }
    if tally.passed == 0 {
        bail!("no test ran: is the filter {filter:?} right?");
    }
    if tally.skipped > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("tests were skipped, which is a failure where CI=true");
    }
    Ok(())
}

/// Passes the output through and counts. False when the runner failed.
fn run(command: &mut std::process::Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command.spawn().context("cargo could not be started")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(output).lines() {
        let line = line?;
        tally.read(&line);
        writeln!(out, "{line}")?;
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_counted() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s");
        tally
            .read("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.read("SKIPPED: no chromium: apt-get install chromium");
        tally.read("test something ... ok");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (14, 5, 2));
        assert_eq!(tally.skips, ["no chromium: apt-get install chromium"]);
    }
}
