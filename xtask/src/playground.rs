//! The playground: the page at `/live/{room}`, bundled with esbuild.
//!
//! Owns turning its sources and the npm packages of its lock file into the folder `playground` of the house. A machine
//! without Node.js builds everything else: the page is then missing, which is said.

use crate::{Workspace, tools};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Where it is when it was built.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.house().join("playground")
}

/// Builds it, or says why not.
pub(crate) fn build(workspace: &Workspace) {
    if let Err(error) = bundle(workspace) {
        eprintln!("— the playground is not built: {error:#}");
    }
}

fn bundle(workspace: &Workspace) -> Result<()> {
    let source = workspace.root.join("plugins/live/web");
    let npm = workspace.target.join("playground-npm");
    tools::npm(&source, &npm, "installing the npm packages of the playground")?;
    tools::quiet(
        Command::new("node")
            .args(["--preserve-symlinks", "--preserve-symlinks-main", "scripts/build.mjs"])
            .arg(folder(workspace))
            .current_dir(&npm),
    )
}
