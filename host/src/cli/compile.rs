//! The hidden command that compiles a component for the house, in a process of its own.

use crate::engine::compiler::{self, Keys};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct CompileArgs {
    /// The component.
    wasm: PathBuf,
    /// Where the machine code goes.
    code: PathBuf,
    /// What the code must fit: the engine without concurrency,
    #[arg(value_parser = parse_key)]
    sequential: u64,
    /// or the one with it.
    #[arg(value_parser = parse_key)]
    concurrent: u64,
    /// Bytes of memory.
    memory: u64,
    /// The house.
    parent: i32,
}

fn parse_key(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text, 16)
}

pub(super) fn run(arguments: &CompileArgs) -> ExitCode {
    let CompileArgs { wasm, code, sequential, concurrent, memory, parent } = arguments;
    let keys = Keys { sequential: *sequential, concurrent: *concurrent };
    compiler::run(wasm, code, keys, *memory, *parent)
}
