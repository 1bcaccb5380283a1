//! `guesthouse inspect`.

use crate::plugins::inspect::{Kind, inspect};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what a component imports, exports and needs.
#[derive(clap::Args)]
pub(super) struct InspectArgs {
    /// The component.
    file: PathBuf,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &InspectArgs) -> anyhow::Result<ExitCode> {
    let file = arguments.file.display();
    let bytes = std::fs::read(&arguments.file).with_context(|| format!("{file} can't be read"))?;
    let report = inspect(&bytes).with_context(|| file.to_string())?;
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let kind = match report.kind {
        Kind::Http02 => "answers HTTP through wasi:http 0.2",
        Kind::Http03 => "answers HTTP through wasi:http 0.3",
        Kind::None => "exports no HTTP handler: nothing can be routed to it",
    };
    say!("{file}: {kind}");
    if report.exports.iter().any(|name| name.starts_with("guesthouse:auth/verifier@0.1.")) {
        say!("  can verify callers: name it with `[auth] plugin = \"NAME\"`");
    }
    say!("  size    {:.1} kB", report.size as f64 / 1e3);
    say!("  sha256  {}", report.digest);
    for (title, list) in [("exports", &report.exports), ("imports", &report.imports)] {
        say!("  {title}");
        for name in list {
            say!("    {name}");
        }
    }
    if !report.unknown.is_empty() {
        say!("  this host does not have, so the component can't be loaded:");
        for name in &report.unknown {
            say!("    {name}");
        }
    }
    if report.grants.is_empty() {
        say!("  needs no grants");
    } else {
        say!("  needs in its [plugins.NAME] table, with names of your choice");
        for line in &report.grants {
            say!("    {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
