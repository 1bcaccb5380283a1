//! `cargo xtask bench`: the house against others, in one run.
//!
//! Owns getting the programs that it is compared with, each at the version that the figures were made with.
//! They go into the target folder and are kept there. One that can't be had costs its row, never the run.

use crate::build::{Profile, build, guests};
use crate::prerequisites::{COTURN, find_program, install};
use crate::{Workspace, must, step};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The engine that the house is built with, as its own server.
const WASMTIME: &str = "48.0.8";
const WASMTIME_FEATURES: &str = "run,serve,compile,cranelift,pooling-allocator,component-model-async,\
                                 parallel-compilation,backtrace,wasi-http";
/// Of npm.
const WORKERD: &str = "1.20261117.1";

const ESBUILD: &str = "0.28.2";

/// The last that has a server in it, and the Yjs that the playground has.
const Y_WEBSOCKET: &str = "1.5.4";
const YJS: &str = "13.6.33";

const OTHERS: [&str; 7] =
    ["wasmtime-serve", "workerd", "nginx", "coturn", "esbuild", "transpile-native", "y-websocket"];

const HELP: &str = "\
cargo xtask bench [--quick] [--only NAME] [--with LIST] [--release] [--docs]

  --quick   under two minutes: for comparing a change with what was before, not for publishing
  --only    one measure: hello, asset, kv, start, memory, events, switch, tokens, streams,
            transpile, neighbour, rooms, sockets, turn, live
  --with    which others to compare with: wasmtime-serve,workerd,nginx,coturn,esbuild,
            transpile-native,y-websocket (default: all), or none
  --release measure the build that is quick to make, not the one for production (build --dist)
  --docs    write docs/performance.md and its plots

It needs two cores, and nothing else that is busy on them.";

/// Finds a program to compare with, or says what it takes to have it.
type Find<'a> = &'a dyn Fn(&Workspace) -> Result<PathBuf>;

pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut pass = Vec::new();
    let mut profile = Profile::Dist;
    let mut with: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => pass.push("--quick".to_owned()),
            "--only" => pass.extend(["--only".to_owned(), value()?.clone()]),
            "--with" => {
                with = value()?.split(',').filter(|name| *name != "none").map(Into::into).collect();
            }
            "--release" => profile = Profile::Release,
            "--docs" => pass
                .extend(["--docs".to_owned(), workspace.root.join("docs").display().to_string()]),
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("`cargo xtask bench` has no `{other}`\n\n{HELP}"),
        }
    }
    if let Some(unknown) = with.iter().find(|name| !OTHERS.contains(&name.as_str())) {
        bail!("there is no `{unknown}` to compare with\n\n{HELP}");
    }
    build(workspace, profile)?;
    guests(workspace)?;
    // Beside the quick build it was made already, with the features of everything there.
    if profile == Profile::Dist {
        let mut bench = workspace.cargo();
        bench.args(["build", "--profile=dist", "--package=guesthouse-tests"]);
        must(bench.arg("--bin=guesthouse-bench"), "building the bench")?;
    }
    let mut run = Command::new(workspace.target.join(profile.name()).join("guesthouse-bench"));
    run.args(pass)
        .env("GUESTHOUSE_HOUSE", workspace.house())
        .env("GUESTHOUSE_GUESTS", workspace.guests());
    let native = |workspace: &Workspace| transpile_native(workspace, profile);
    let others: [(&str, &str, Find); 7] = [
        ("wasmtime-serve", "--wasmtime", &wasmtime),
        ("workerd", "--workerd", &workerd),
        ("nginx", "--nginx", &nginx),
        ("coturn", "--coturn", &coturn),
        ("esbuild", "--esbuild", &esbuild),
        ("transpile-native", "--transpile", &native),
        ("y-websocket", "--y-websocket", &y_websocket),
    ];
    for (name, flag, find) in others {
        if !with.iter().any(|wanted| wanted == name) {
            continue;
        }
        match find(workspace) {
            Ok(program) => {
                run.arg(flag).arg(program);
            }
            Err(error) => eprintln!("— without {name}: {error:#}"),
        }
    }
    must(&mut run, "the bench")
}

fn folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Built once; about five minutes on two idle cores. `serve` does not compile without `run`.
fn wasmtime(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace)?;
    let program = folder.join("bin/wasmtime");
    if is_version(&program, WASMTIME) {
        return Ok(program);
    }
    step("building `wasmtime serve`, once", || {
        let mut cargo = workspace.cargo();
        cargo
            .arg("install")
            .arg(format!("wasmtime-cli@{WASMTIME}"))
            .args(["--locked", "--no-default-features", "--features", WASMTIME_FEATURES, "--root"])
            .arg(&folder)
            .env("CARGO_TARGET_DIR", folder.join("build"));
        must(&mut cargo, "cargo install wasmtime-cli")
    })?;
    Ok(program)
}

fn workerd(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace)?;
    let package = match std::env::consts::ARCH {
        "x86_64" => "workerd-linux-64",
        "aarch64" => "workerd-linux-arm64",
        other => bail!("there is no workerd for {other}"),
    };
    // The program itself: the package's own `bin/workerd` is a script that starts it.
    let program = folder.join("node_modules/@cloudflare").join(package).join("bin/workerd");
    if program.exists() {
        return Ok(program);
    }
    step("fetching workerd, once", || {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg(format!("workerd@{WORKERD}"))
            .stdout(Stdio::null());
        must(&mut npm, "npm install workerd")
    })?;
    Ok(program)
}

/// The folder whose `node_modules` has esbuild as a program and as wasm.
fn esbuild(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace)?;
    let installed =
        |name: &str| folder.join("node_modules").join(name).join("package.json").exists();
    if installed("esbuild") && installed("esbuild-wasm") {
        return Ok(folder);
    }
    step("fetching esbuild, once", || {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .args([format!("esbuild@{ESBUILD}"), format!("esbuild-wasm@{ESBUILD}")])
            .stdout(Stdio::null());
        must(&mut npm, "npm install esbuild")
    })?;
    Ok(folder)
}

/// The folder whose `node_modules` has y-websocket with its server.
fn y_websocket(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace)?.join("y-websocket");
    if folder.join("node_modules/y-websocket/bin/server.js").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    step("fetching y-websocket, once", || {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .args([format!("y-websocket@{Y_WEBSOCKET}"), format!("yjs@{YJS}"), "ws@6".to_owned()])
            .stdout(Stdio::null());
        must(&mut npm, "npm install y-websocket")
    })?;
    Ok(folder)
}

/// Compiles oxc for this machine as the house is compiled, in a folder of its own.
fn transpile_native(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let target = workspace.target.join("bench/transpile");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", profile.name(), "--package=transpile-native"]);
    cargo.arg("--target-dir").arg(&target);
    step("building the transpile plugin's pipeline without wasm", || {
        must(&mut cargo, "building transpile-native")
    })?;
    Ok(target.join(profile.name()).join("transpile-native"))
}

/// Never installed from here: in many systems its package starts a server at once.
fn nginx(_: &Workspace) -> Result<PathBuf> {
    let sbin = Path::new("/usr/sbin/nginx");
    find_program("nginx")
        .or_else(|| sbin.exists().then(|| sbin.to_owned()))
        .context("it is not installed (`apt-get install nginx-light`)")
}

/// From the package that the tests take its client from.
fn coturn(_: &Workspace) -> Result<PathBuf> {
    install(&[COTURN])?;
    find_program("turnserver").context("the package coturn was installed without turnserver")
}

fn is_version(program: &Path, version: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version))
}
