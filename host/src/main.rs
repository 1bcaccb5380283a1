//! The one binary. It calls the library's command line.

use std::process::ExitCode;

/// In the binary alone, so that a program that embeds the library chooses its own. What a request allocates is
/// small, short-lived, and often freed by another thread, which this allocator does without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    guesthouse::cli::main()
}
