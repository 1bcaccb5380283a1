//! `cargo xtask build`: the folder that runs alone.

use crate::{Workspace, must, playground, prerequisites, step};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// What the native build is made of: the same for running and for testing, so that heavy dependencies are
/// compiled once, with one set of features.
pub(crate) const NATIVE: [&str; 12] = [
    "--release",
    "--package=guesthouse",
    "--package=guesthouse-tests",
    "--package=guesthouse-sdk",
    "--package=ai-common",
    "--package=ai-logs",
    "--package=anthropic",
    "--package=assets",
    "--package=cms",
    "--package=openai",
    "--package=replicate",
    "--package=webrtc-turn",
];

/// What is optimized as a whole. A plugin among it would be a library for this machine, which takes other objects.
const WHOLE: [&str; 3] = ["--profile=dist", "--package=guesthouse", "--bin=guesthouse"];

/// The profiles of Cargo.toml that native programs are built with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For running and testing what was just changed.
    Release,
    /// Optimized as a whole: for production, and for measuring.
    Dist,
}

impl Profile {
    /// Its name, which is that of its folder as well.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    /// With or without `--dist`, and nothing else.
    pub(crate) fn of_arguments(arguments: &[String]) -> Result<Self> {
        match arguments {
            [] => Ok(Self::Release),
            [only] if only == "--dist" => Ok(Self::Dist),
            _ => anyhow::bail!("`cargo xtask build` takes `--dist` or nothing"),
        }
    }
}

/// Builds everything and lays out `target/house`.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<()> {
    prerequisites::for_building(workspace)?;
    let began = Instant::now();
    let program = workspace.target.join(profile.name()).join("guesthouse");
    if !program.exists() {
        eprintln!(
            "— the first build compiles RocksDB, wasmtime and more: about half an hour on two cores, once"
        );
    }
    if profile == Profile::Dist {
        eprintln!(
            "— optimizing the house as a whole takes ten to fifteen minutes more, each time it changes"
        );
    }
    // The host takes longest and starts first; the components have a target folder of their own, because
    // two builds in one folder wait for each other.
    let mut host = workspace.cargo();
    host.arg("build");
    match profile {
        Profile::Release => host.args(NATIVE),
        Profile::Dist => host.args(WHOLE),
    };
    let mut host = host.spawn().context("cargo could not be started")?;
    let components = components(workspace);
    let host = wait_and_tell(&mut host)?;
    components?;
    if !host.success() {
        anyhow::bail!("building the host failed; the lines above say why");
    }
    lay_out(workspace, &program)?;
    playground::build(workspace);
    eprintln!(
        "— {} is ready after {:.0} s",
        workspace.house().display(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Waits, and says that it still does: one crate compiles for many minutes without a word from cargo, which
/// shows its own bar in a terminal only.
fn wait_and_tell(child: &mut Child) -> Result<ExitStatus> {
    let began = Instant::now();
    let mut told = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let minutes = began.elapsed().as_secs() / 60;
        if minutes > told && !std::io::stderr().is_terminal() {
            told = minutes;
            eprintln!("— still compiling after {minutes} min");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A plugin of the workspace.
pub(crate) struct Plugin {
    /// Its package, which is its name.
    pub(crate) name: String,
    /// Whether its package asks for wide arithmetic: `[package.metadata.guesthouse] wide-arithmetic = true`.
    wide: bool,
}

/// The plugins of the workspace: every member under plugins/ that makes a component.
pub(crate) fn plugins(workspace: &Workspace) -> Result<Vec<Plugin>> {
    let output =
        workspace.cargo().args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let folder = workspace.root.join("plugins");
    let mut plugins = Vec::new();
    for package in metadata.get("packages").and_then(|p| p.as_array()).into_iter().flatten() {
        let text =
            |key: &str| package.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let makes_component = package.to_string().contains("\"cdylib\"");
        if makes_component && Path::new(text("manifest_path")).starts_with(&folder) {
            let wide = package.pointer("/metadata/guesthouse/wide-arithmetic");
            let wide = wide.and_then(serde_json::Value::as_bool).unwrap_or_default();
            plugins.push(Plugin { name: text("name").to_owned(), wide });
        }
    }
    Ok(plugins)
}

/// Instructions on 128 bits: whatever is moved or searched goes faster, and every host has them (WebAssembly 2.0).
const ALL: &str = "-Ctarget-feature=+simd128";

/// Also multiplication of 64 by 64 bits in one instruction, which the house understands: rustc has it behind a flag that
/// holds for the whole build. curve25519-dalek takes 32-bit words on wasm unless it is told otherwise.
const WIDE: &str = "-Ctarget-feature=+simd128,+wide-arithmetic --cfg=curve25519_dalek_bits=\"64\"";

/// Where the components of one kind are built. Two sets of flags in one folder would compile everything anew in
/// turns.
fn components_folder(workspace: &Workspace, wide: bool) -> PathBuf {
    workspace.target.join(if wide { "components-wide" } else { "components" })
}

fn components(workspace: &Workspace) -> Result<()> {
    let plugins = plugins(workspace)?;
    for wide in [false, true] {
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--profile=guest", "--target=wasm32-wasip2", "--target-dir"]);
        cargo.arg(components_folder(workspace, wide));
        let given = std::env::var("RUSTFLAGS").unwrap_or_default();
        let flags = if wide { WIDE } else { ALL };
        cargo.env("RUSTFLAGS", format!("{given} {flags}").trim_start());
        let before = cargo.get_args().len();
        for plugin in plugins.iter().filter(|plugin| plugin.wide == wide) {
            cargo.args(["--package", &plugin.name]);
        }
        // Without a package cargo would build the house.
        if cargo.get_args().len() > before {
            must(&mut cargo, "building the components")?;
        }
    }
    Ok(())
}

fn lay_out(workspace: &Workspace, program: &Path) -> Result<()> {
    let house = workspace.house();
    copy(program, &house.join("guesthouse"))?;
    for Plugin { name, wide } in plugins(workspace)? {
        let built = components_folder(workspace, wide).join("wasm32-wasip2/guest");
        let file = built.join(format!("{}.wasm", name.replace('-', "_")));
        copy(&file, &house.join("plugins").join(format!("{name}.wasm")))?;
    }
    for entry in std::fs::read_dir(workspace.root.join("config"))? {
        let entry = entry?;
        if entry.path().extension() == Some(OsStr::new("toml")) {
            copy(&entry.path(), &house.join("config").join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whole or not at all, and never into a file that is running.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("{} could not be copied to {}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(what)?;
    }
    let temporary = to.with_extension(format!("tmp{}", std::process::id()));
    std::fs::copy(from, &temporary).with_context(what)?;
    std::fs::rename(&temporary, to).with_context(what)
}

/// Components for the tests, from the workspace of their own that they are in.
pub(crate) fn guests(workspace: &Workspace) -> Result<()> {
    step("building the guests of the tests", || {
        let folder = workspace.root.join("tests/guests");
        let target = workspace.target.join("guests-build");
        let mut cargo = workspace.cargo();
        cargo.args([
            "build",
            "--workspace",
            "--profile=guest",
            "--target=wasm32-wasip2",
            "--manifest-path",
        ]);
        cargo.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
        must(&mut cargo, "building the guests")?;
        for entry in std::fs::read_dir(target.join("wasm32-wasip2/guest"))? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("wasm"))
                && let Some(name) = path.file_name()
            {
                copy(&path, &workspace.guests().join(name))?;
            }
        }
        Ok(())
    })
}

/// The path of a program of the house.
pub(crate) fn guesthouse(workspace: &Workspace) -> Command {
    Command::new(workspace.house().join("guesthouse"))
}
