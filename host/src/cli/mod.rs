//! The command line.
//!
//! Owns the words that an operator types. Each command is one short file that calls the library.

/// Prints a line of what was asked for.
macro_rules! say {
    ($($text:tt)*) => { crate::cli::line(format_args!($($text)*))? };
}

mod assets;
mod auth;
mod client;
mod compile;
mod deploy;
mod inspect;
mod kv;
mod rooms;
mod serve;
mod table;
mod transpile;
mod turn;
mod versions;

use crate::engine::compiler;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A plugin host: loads WebAssembly components, grants each exactly what it needs, and routes HTTP to them.
#[derive(Parser)]
#[command(name = "guesthouse", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the house.
    Serve(serve::ServeArgs),
    /// Make the configuration of a running house what serves.
    Deploy(deploy::DeployArgs),
    /// Show the plugins of a running house.
    Plugins(versions::PluginsArgs),
    /// Show the kept versions of a plugin.
    Versions(versions::VersionsArgs),
    /// Serve a canary to more callers, or to all.
    Promote(versions::PromoteArgs),
    /// Make an earlier version of a plugin the one that serves, or take its canary back.
    Rollback(versions::RollbackArgs),
    /// Show what a component imports, exports and needs.
    Inspect(inspect::InspectArgs),
    /// Read and write the data of a running house.
    Kv(kv::KvArgs),
    /// Show and close the rooms of a running house.
    Rooms(rooms::RoomsArgs),
    /// Tokens of the house's own issuer, for development.
    Auth(auth::AuthArgs),
    /// Show and end what the relay of a running house relays.
    Turn(turn::TurnArgs),
    /// Publish a site to a running house.
    Assets(assets::AssetsArgs),
    /// What the house starts to compile a component.
    #[command(name = compiler::COMMAND, hide = true)]
    Compile(compile::CompileArgs),
    /// Make JavaScript of TypeScript and JSX, with the plugin of a running house.
    Transpile(transpile::TranspileArgs),
}

/// Who reads the output has seen enough of it, as `| head` has.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct HadEnough;

/// `println!` would panic when nobody reads any more.
fn line(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(HadEnough.into()),
        result => Ok(result?),
    }
}

/// Runs the command that was typed.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Deploy(arguments) => client::block_on(deploy::run(arguments)),
        Command::Plugins(arguments) => client::block_on(versions::plugins(arguments)),
        Command::Versions(arguments) => client::block_on(versions::versions(arguments)),
        Command::Promote(arguments) => client::block_on(versions::promote(arguments)),
        Command::Rollback(arguments) => client::block_on(versions::rollback(arguments)),
        Command::Kv(arguments) => client::block_on(kv::run(arguments)),
        Command::Compile(arguments) => Ok(compile::run(&arguments)),
        Command::Rooms(arguments) => client::block_on(rooms::run(arguments)),
        Command::Turn(arguments) => client::block_on(turn::run(arguments)),
        Command::Auth(arguments) => auth::run(&arguments),
        Command::Assets(arguments) => client::block_on(assets::run(arguments)),
        Command::Transpile(arguments) => client::block_on(transpile::run(arguments)),
    };
    crate::log::flush();
    result.unwrap_or_else(|error| {
        if error.is::<HadEnough>() {
            return ExitCode::SUCCESS;
        }
        eprintln!("guesthouse: {error:#}");
        ExitCode::FAILURE
    })
}
