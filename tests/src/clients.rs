//! Clients of others: scripts in `tests/clients/`, run with what `cargo xtask test` installed.
//!
//! Owns finding them, ending them when they hang, and saying loudly when one is missing. A script prints what
//! the test looks at; it exits with another code than 0 when it failed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a client may take, browsers and compilers of others included.
const PATIENCE: Duration = Duration::from_secs(300);

/// Says that a test is skipped, in a way that the test runner does not swallow. `cargo xtask test` counts these
/// lines, and under `CI=true` fails because of them.
pub fn skip(why: &str) {
    // Not `println!`: its output is kept back for tests that pass.
    let mut out = std::io::stdout().lock();
    _ = writeln!(out, "\nSKIPPED: {why}");
    _ = out.flush();
}

/// What `cargo xtask test` says of a tool. None: it is missing, and that was said.
#[must_use]
pub fn tool(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        let why = std::env::var(format!("{variable}_MISSING"))
            .unwrap_or_else(|_| format!("{variable} is not set: cargo xtask test sets it"));
        skip(&why);
    }
    path
}

/// A browser.
#[must_use]
pub fn chromium() -> Option<PathBuf> {
    tool("GUESTHOUSE_CHROMIUM")
}

/// A command that runs `tests/clients/node/SCRIPT`, which may import the packages of
/// `tests/clients/node/package.json`.
#[must_use]
pub fn node_command(script: &str) -> Option<Command> {
    let folder = tool("GUESTHOUSE_NODE")?;
    let mut command = Command::new("node");
    command
        .args(["--preserve-symlinks", "--preserve-symlinks-main"])
        .arg(existing(&folder.join("scripts").join(script)))
        .stdin(Stdio::null());
    Some(command)
}

/// A command that runs `tests/clients/python/SCRIPT` with the packages of
/// `tests/clients/python/requirements.txt`.
#[must_use]
pub fn python_command(script: &str) -> Option<Command> {
    let interpreter = tool("GUESTHOUSE_PYTHON")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let mut command = Command::new(interpreter);
    command.arg("-B").arg(existing(&folder.join(script))).stdin(Stdio::null());
    Some(command)
}

fn existing(script: &Path) -> &Path {
    assert!(script.exists(), "{} is not there", script.display());
    script
}

/// Runs a script of Node.js to its end.
#[must_use]
pub fn node(script: &str, arguments: &[&str]) -> Option<Output> {
    Some(finish(node_command(script)?.args(arguments)))
}

/// Runs a script of Python to its end.
#[must_use]
pub fn python(script: &str, arguments: &[&str]) -> Option<Output> {
    Some(finish(python_command(script)?.args(arguments)))
}

/// Runs a command to its end and keeps what it prints; ends it when it hangs.
///
/// # Panics
/// When it can't be started or hangs.
#[must_use]
pub fn finish(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} could not be started: {error}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child);
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!(
            "{command:?} hung; it said:\n{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    }
}

/// What a script printed; the test fails with all that it said when it failed.
#[must_use]
pub fn text_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            _ = pipe.read_to_end(&mut all);
        }
        all
    })
}

fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if began.elapsed() > PATIENCE {
            _ = child.kill();
            _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
