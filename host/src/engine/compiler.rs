//! Compiling, in a process of its own.
//!
//! Owns both sides: the house starts itself anew with a hidden command, and that process reads a component,
//! compiles it and writes the machine code. The danger that shaped it: a component made to be compiled for
//! hours, or into more memory than there is. The process that serves must not notice, so the other one has a
//! limit of time, a limit of memory, a low priority, no environment (which holds secrets), and dies with its
//! parent.

use super::settings;
use rustix::process::{Resource, Rlimit, Signal};
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use wasmparser::Payload;

/// The hidden command.
pub const COMMAND: &str = "compile-component";
/// How much nicer than the house the compiler is (`nice(2)`).
const NICENESS: i32 = 10;
/// How often the house looks whether the compiler has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of what the compiler says that are read.
const MOST_TEXT: u64 = 16 << 10;

/// Settings of the allocator: nothing is made writable before it is needed, since the limit of memory counts what
/// may be written to and not what is.
const ALLOCATE_BY_NEED: [(&str, &str); 2] =
    [("MIMALLOC_ARENA_EAGER_COMMIT", "0"), ("MIMALLOC_EAGER_COMMIT", "0")];

/// How the compiler says that the code is for the engine with concurrency.
const CONCURRENT: u8 = 2;
/// How it says that it was the component's fault.
const REFUSED: u8 = 3;
/// How it says that the code could not be written.
const NOT_WRITTEN: u8 = 4;

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is not valid, or uses what this engine has not.
    #[error("the component does not compile: {0}")]
    Refused(String),
    /// It took too long.
    #[error("compiling the component took longer than {0:?} (engine.compile_timeout)")]
    Time(Duration),
    /// It took too much memory.
    #[error("compiling the component took more than {0} bytes of memory (engine.compile_memory)")]
    Memory(u64),
    /// The code could not be written.
    #[error("the compiled component could not be written: {0}")]
    NotWritten(String),
    /// The process could not be started, or ended in a way that it should not.
    #[error("the compiler failed: {0}")]
    Failed(String),
}

/// What a compilation may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compiler {
    /// `engine.compile_timeout`
    pub timeout: Duration,
    /// `engine.compile_memory`
    pub memory: u64,
}

/// Kills the process unless it has ended.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Compiler {
    /// Compiles `wasm` into the file `code`, for one of the engines with these keys, and gives the key of that
    /// one. Blocks for as long as it takes.
    pub(super) fn compile(
        &self,
        wasm: &Path,
        code: &Path,
        keys: Keys,
    ) -> Result<u64, CompileError> {
        let failed = |error: std::io::Error| CompileError::Failed(error.to_string());
        // The running program by its inode: also when the file has been replaced by a newer release.
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .args([wasm, code])
            .args([keys.sequential, keys.concurrent].map(|key| format!("{key:016x}")))
            .arg(self.memory.to_string())
            .arg(std::process::id().to_string())
            .env_clear()
            .envs(ALLOCATE_BY_NEED)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map(Killed)
            .map_err(failed)?;
        let stderr = child.0.stderr.take();
        let listener = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                _ = stderr.by_ref().take(MOST_TEXT).read_to_end(&mut text);
                _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(failed)? {
                break status;
            }
            if began.elapsed() > self.timeout {
                return Err(CompileError::Time(self.timeout));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let text = listener.join().unwrap_or_default();
        match status.code() {
            Some(0) => Ok(keys.sequential),
            Some(code) if code == i32::from(CONCURRENT) => Ok(keys.concurrent),
            Some(code) if code == i32::from(REFUSED) => Err(CompileError::Refused(text)),
            Some(code) if code == i32::from(NOT_WRITTEN) => Err(CompileError::NotWritten(text)),
            _ if is_out_of_memory(&text) => Err(CompileError::Memory(self.memory)),
            _ => {
                let how = match status.signal() {
                    Some(signal) => format!("signal {signal}"),
                    None => status.to_string(),
                };
                Err(CompileError::Failed(format!("{how}: {text}")))
            }
        }
    }
}

/// What the standard library, its threads and the compiler say when an allocation is denied.
fn is_out_of_memory(text: &str) -> bool {
    text.contains("memory allocation of")
        || text.contains("Cannot allocate memory")
        || text.contains("os error 11")
        || text.contains("os error 12")
}

/// The other side: what the hidden command does.
pub fn run(wasm: &Path, code: &Path, keys: Keys, memory: u64, parent: i32) -> ExitCode {
    let say = |status: u8, text: String| {
        eprintln!("{text}");
        ExitCode::from(status)
    };
    if let Err(error) = confine(memory, parent) {
        return say(1, error.to_string());
    }
    let wasm = match std::fs::read(wasm) {
        Ok(wasm) => wasm,
        Err(error) => return say(1, format!("the component can't be read: {error}")),
    };
    let engines = match settings::compilers() {
        Ok(engines) => engines,
        Err(error) => return say(1, format!("{error:#}")),
    };
    if keys != Keys::of(&engines.sequential, &engines.concurrent) {
        return say(1, "its settings are not those of the house".to_owned());
    }
    let write = |bytes: Vec<u8>, written: u8| match std::fs::write(code, bytes) {
        Ok(()) => ExitCode::from(written),
        Err(error) => say(NOT_WRITTEN, error.to_string()),
    };
    // What needs concurrency without naming WASI 0.3 is refused by the first engine before it has compiled
    // anything; and what is wrong with a component that both refuse, the second says.
    if !names_wasi_0_3(&wasm)
        && let Ok(bytes) = engines.sequential.precompile_component(&wasm)
    {
        return write(bytes, 0);
    }
    match engines.concurrent.precompile_component(&wasm) {
        Ok(bytes) => write(bytes, CONCURRENT),
        Err(error) => say(REFUSED, format!("{error:#}")),
    }
}

/// Whether the component imports or exports an interface of WASI 0.3: some of these have nothing concurrent
/// in them, and are linked in that engine only all the same.
fn names_wasi_0_3(wasm: &[u8]) -> bool {
    let is_0_3 = |name: &str| name.starts_with("wasi:") && name.contains("@0.3.");
    let mut depth = 0_usize;
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        let found = match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => {
                depth = depth.saturating_add(1);
                false
            }
            Ok(Payload::End(_)) => {
                depth = depth.saturating_sub(1);
                false
            }
            Ok(Payload::ComponentImportSection(imports)) if depth == 0 => {
                imports.into_iter().flatten().any(|import| is_0_3(import.name.name))
            }
            Ok(Payload::ComponentExportSection(exports)) if depth == 0 => {
                exports.into_iter().flatten().any(|export| is_0_3(export.name.name))
            }
            Ok(_) => false,
            // The compiler says what is wrong with it.
            Err(_) => return false,
        };
        if found {
            return true;
        }
    }
    false
}

/// What compiled code must fit, for each of the two engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The engine without concurrency.
    pub sequential: u64,
    /// The engine with it.
    pub concurrent: u64,
}

impl Keys {
    pub(super) fn of(sequential: &wasmtime::Engine, concurrent: &wasmtime::Engine) -> Self {
        Self { sequential: key_of(sequential), concurrent: key_of(concurrent) }
    }
}

/// Everything in an engine that compiled code depends on, as a number.
fn key_of(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Gives up what the compiler doesn't need, before it has seen a byte of the component.
fn confine(memory: u64, parent: i32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Err(std::io::Error::other("the house is gone"));
    }
    // Address space is cheap and reserved in plenty; what counts is memory that can be written to.
    let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
    rustix::process::setrlimit(Resource::Data, limit)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    // Best effort: at the same priority it compiles just as well.
    _ = rustix::process::setpriority_process(None, NICENESS);
    Ok(())
}
