//! `cargo xtask`: builds the components and the house, then does the thing.
//!
//! Owns the two commands of the README. It installs what a fresh machine lacks, or says which one command
//! would; it compiles heavy dependencies once for running and testing; it never hides what it runs.

mod advisories;
mod bench;
mod build;
mod check;
mod languages;
mod playground;
mod policy;
mod prerequisites;
mod run;
mod site;
mod test;
mod tools;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

const HELP: &str = "\
cargo xtask COMMAND

  run     build everything, publish the sample site, start the house
  test    run every test: unit, component, end-to-end [FILTER]
  build   build target/house: the binary, its plugins, its configuration; --dist: for production,
          optimized as a whole
  bench   measure that one against others [--quick] [--only NAME] [--with LIST] [--release] [--docs]
  check   formatting, lints, the contract in wit/, licences, advisories, sizes of files
  clean   remove what run and build leave; --all: everything that was compiled

  tools   install what the tests need of others, and print the variables for a shell:
          eval \"$(cargo xtask tools)\" && cargo test --release -p guesthouse-tests NAME
  advisories FOLDER   renew xtask/advisories.json from a clone of RustSec's advisory-db
";

/// Where things are.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    fn new() -> Result<Self> {
        // What cargo says now, before what it said when this was compiled: two checkouts that share a target folder
        // share this program too, and the other one may be gone.
        let member = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = member.parent().context("xtask has no parent")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => root.join(target),
            None => root.join("target"),
        };
        Ok(Self { root: root.to_owned(), target })
    }

    /// The folder that runs alone, wherever it is copied.
    fn house(&self) -> PathBuf {
        self.target.join("house")
    }

    /// Components for the tests.
    fn guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// cargo, in the workspace.
    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }
}

/// Runs a command whose output the person sees.
fn must(command: &mut Command, what: &str) -> Result<()> {
    let status =
        command.status().with_context(|| format!("{what}: {command:?} could not be started"))?;
    if !status.success() {
        bail!("{what} failed ({status}); the lines above say why");
    }
    Ok(())
}

/// Says what is being done, and how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("— {what}");
    let began = Instant::now();
    let result = work()?;
    let took = began.elapsed().as_secs_f64();
    if took > 1.0 {
        eprintln!("  {what}: {took:.0} s");
    }
    Ok(result)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    // Asking how a command is used must not start it: some take half an hour. `bench` answers that itself.
    let asks = |argument: &String| matches!(argument.as_str(), "--help" | "-h");
    let command = arguments.first().filter(|name| *name == "bench" || !arguments.iter().any(asks));
    let result = Workspace::new().and_then(|workspace| match command.map(String::as_str) {
        Some("build") => {
            build::Profile::of_arguments(rest).and_then(|profile| build::build(&workspace, profile))
        }
        Some("run") => run::run(&workspace, rest),
        Some("test") => test::test(&workspace, rest),
        Some("bench") => bench::bench(&workspace, rest),
        Some("check") => check::check(&workspace),
        Some("tools") => {
            tools::Tools::prepare(&workspace).print(&workspace);
            Ok(())
        }
        Some("advisories") => advisories::renew(&workspace, rest),
        Some("clean") => clean(&workspace, rest.iter().any(|argument| argument == "--all")),
        None | Some("help") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("there is no command `{other}`\n\n{HELP}"),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn clean(workspace: &Workspace, all: bool) -> Result<()> {
    let gone = if all {
        vec![workspace.target.clone()]
    } else {
        vec![workspace.house(), workspace.guests(), workspace.target.join("house-data")]
    };
    for folder in gone {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("{} can't be removed", folder.display()))?;
            println!("removed {}", folder.display());
        }
    }
    Ok(())
}
