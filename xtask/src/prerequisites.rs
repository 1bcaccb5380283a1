//! What a fresh machine lacks.
//!
//! Owns installing it, where that may be done without asking: as root, or with a `sudo` that wants no
//! password. Elsewhere it stops and prints the one command to type. What is there is never touched.

use crate::{Workspace, must};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package that something needs, by the name that each package manager has for it.
pub(crate) struct Package {
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

/// For clients of npm, and for components made of JavaScript.
pub(crate) const NODE: Package = Package {
    what: "Node.js and npm, for tests with JavaScript clients",
    apt: "nodejs npm",
    dnf: "nodejs npm",
    pacman: "nodejs npm",
    is_there: || has_program("node") && has_program("npm"),
};

/// For clients of PyPI, and for components made of Python.
pub(crate) const PYTHON: Package = Package {
    what: "Python 3 with venv, for tests with Python clients",
    apt: "python3 python3-venv",
    dnf: "python3",
    pacman: "python",
    is_there: || {
        let mut python = Command::new("python3");
        python.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    },
};

/// The browser of the tests. Ubuntu has it as a snap only, which apt can't install in a container.
pub(crate) const CHROMIUM: Package = Package {
    what: "Chromium, for tests in a browser",
    apt: "chromium",
    dnf: "chromium",
    pacman: "chromium",
    is_there: || chromium().is_some(),
};

/// Clients of relays that others wrote: the reference that ours is tested against.
pub(crate) const COTURN: Package = Package {
    what: "coturn's tools, for tests of the relay",
    apt: "coturn",
    dnf: "coturn coturn-utils",
    pacman: "coturn",
    is_there: || turnutils().is_some(),
};

/// Where coturn's client is; its peer lies beside it.
pub(crate) fn turnutils() -> Option<PathBuf> {
    find_program("turnutils_uclient")
}

/// The test suite of WebDAV.
pub(crate) const LITMUS: Package = Package {
    what: "litmus, which tests what keeps documents over HTTP",
    apt: "litmus",
    dnf: "litmus",
    pacman: "litmus",
    is_there: || litmus().is_some(),
};

/// Where the test suite of WebDAV is.
pub(crate) fn litmus() -> Option<PathBuf> {
    find_program("litmus")
}

/// Where a browser is, whatever this system calls it.
pub(crate) fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
        .into_iter()
        .find_map(find_program)
}

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

/// Installs what is not there, if that may be done without asking.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
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
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
             apt-get -o DPkg::Lock::Timeout=300 install -y -qq {}",
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
    find_program(name).is_some()
}

pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether bindgen would find libclang, and libclang the headers that it brings itself. Either can be there
/// without the other, and then RocksDB's bindings fail after minutes of compiling.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut folders: Vec<PathBuf> = entries("/usr/lib")
        .filter(|path| is_called(path, "llvm"))
        .map(|path| path.join("lib"))
        .collect();
    for folder in
        ["/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
    {
        folders.push(folder.into());
    }
    let has_library = folders
        .iter()
        .flat_map(entries)
        .any(|path| path.file_name().is_some_and(|name| is_libclang(&name.to_string_lossy())));
    let has_headers = folders
        .iter()
        .flat_map(|folder| entries(folder.join("clang")))
        .any(|version| version.join("include/stddef.h").is_file());
    has_library && has_headers
}

/// As bindgen looks for it: `libclang.so`, `libclang-14.so`, `libclang.so.14`. `libclang-cpp.so` is another
/// library.
fn is_libclang(file: &str) -> bool {
    file.strip_prefix("libclang").is_some_and(|rest| {
        rest.starts_with(".so") || (rest.starts_with('-') && rest.contains(".so"))
    }) && !file.starts_with("libclang-cpp")
}

fn is_called(path: &Path, beginning: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
}

/// What a folder has; nothing where there is no such folder.
fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        for libclang in ["libclang.so", "libclang-14.so", "libclang.so.14", "libclang-14.so.14.0.6"]
        {
            assert!(is_libclang(libclang), "{libclang}");
        }
        for other in ["libclang-cpp.so.14", "libclangAST.a", "libc.so", "libclang.a"] {
            assert!(!is_libclang(other), "{other}");
        }
    }
}
