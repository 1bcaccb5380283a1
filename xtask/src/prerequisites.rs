//! What a fresh machine lacks.
//!
//! Owns installing it, where that may be done without asking: as root, or with a `sudo` that wants no
//! password. Elsewhere it stops and prints the one command to type. What is there is never touched.

use crate::{Workspace, must};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A package that something needs, by the name that each package manager has for it.
struct Package {
    what: &'static str,
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
    is_there: fn() -> bool,
}

const LIBCLANG: Package = Package {
    what: "libclang, for RocksDB's bindings",
    apt: "libclang-dev",
    dnf: "clang-devel",
    pacman: "clang",
    is_there: has_libclang,
};

const COMPILER: Package = Package {
    what: "a C++ compiler, for RocksDB",
    apt: "g++",
    dnf: "gcc-c++",
    pacman: "gcc",
    is_there: || has_program("c++") || has_program("g++") || has_program("clang++"),
};

/// For building: the wasm target, libclang, a C++ compiler.
pub(crate) fn for_building(workspace: &Workspace) -> Result<()> {
    rustup_target(workspace)?;
    install(&[LIBCLANG, COMPILER])
}

/// For checking: the toolchain's own tools.
pub(crate) fn for_checking(workspace: &Workspace) -> Result<()> {
    if has_program("rustup") {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rustfmt", "clippy"]).current_dir(&workspace.root);
        quietly(&mut rustup, "adding rustfmt and clippy")?;
    }
    Ok(())
}

fn rustup_target(workspace: &Workspace) -> Result<()> {
    if !has_program("rustup") {
        // A toolchain of the system: cargo itself will say if the target is missing.
        return Ok(());
    }
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .current_dir(&workspace.root)
        .output()?;
    if String::from_utf8_lossy(&installed.stdout).lines().any(|line| line == "wasm32-wasip2") {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", "wasm32-wasip2"]).current_dir(&workspace.root);
    quietly(&mut rustup, "adding the target wasm32-wasip2")
}

/// Shows the output only when it fails.
fn quietly(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !(package.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<&str> = missing.iter().map(|package| package.what).collect();
    let what = what.join("; ");
    let names = |of: fn(&Package) -> &'static str| {
        missing.iter().map(|package| of(package)).collect::<Vec<_>>().join(" ")
    };
    let script = if has_program("apt-get") {
        format!(
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq {}",
            names(|p| p.apt)
        )
    } else if has_program("dnf") {
        format!("dnf install -y {}", names(|p| p.dnf))
    } else if has_program("pacman") {
        format!("pacman -S --noconfirm {}", names(|p| p.pacman))
    } else {
        bail!(
            "this machine lacks {what}. Install it with the system's package manager and try again"
        );
    };
    let is_root =
        Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"));
    let mut shell = if is_root {
        Command::new("sh")
    } else if Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        bail!("this machine lacks {what}. Type this and try again:\n\n    sudo sh -c '{script}'\n");
    };
    eprintln!("— installing what is missing: {what}");
    must(shell.args(["-c", &script]).stdout(Stdio::null()), "installing")
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Where libclang is on the systems that we know.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let is_libclang = |folder: &Path| {
        std::fs::read_dir(folder).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name == "libclang.so"
                    || name.starts_with("libclang.so.")
                    || name.starts_with("libclang-")
            })
        })
    };
    let llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let llvm = llvm.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"));
    llvm.map(|entry| entry.path().join("lib")).any(|folder| is_libclang(&folder))
        || ["/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
            .iter()
            .any(|folder| is_libclang(Path::new(folder)))
}
