//! The hidden command that compiles a component for the house, in a process of its own.

use crate::engine::compiler;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct CompileArgs {
    /// The component.
    wasm: PathBuf,
    /// Where the machine code goes.
    code: PathBuf,
    /// What the code must fit.
    #[arg(value_parser = parse_key)]
    key: u64,
    /// Bytes of memory.
    memory: u64,
    /// The house.
    parent: i32,
}

fn parse_key(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text, 16)
}

pub(super) fn run(arguments: &CompileArgs) -> ExitCode {
    let CompileArgs { wasm, code, key, memory, parent } = arguments;
    compiler::run(wasm, code, *key, *memory, *parent)
}
