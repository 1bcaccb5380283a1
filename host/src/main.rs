//! The one binary. It calls the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    guesthouse::cli::main()
}
