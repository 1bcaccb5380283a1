//! `guesthouse auth`: tokens for development.
//!
//! Owns nothing but the words: the issuer is the house's, and its key lies in the data folder. Who can read
//! the folder is the operator, and may be anyone in development; a house with `--env prod` refuses every one
//! of these tokens.

use crate::auth::{Claims, DevIssuer};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Tokens of the house's own issuer, for development.
#[derive(clap::Args)]
pub(super) struct AuthArgs {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(clap::Subcommand)]
enum AuthCommand {
    /// Print a token that this house accepts, unless it runs with --env prod.
    Token(TokenArgs),
}

#[derive(clap::Args)]
struct TokenArgs {
    /// The house's data folder.
    #[arg(long, env = "GUESTHOUSE_DATA", default_value = "data")]
    data: PathBuf,
    /// Who the caller is.
    #[arg(long, default_value = "demo-user")]
    sub: String,
    /// A claim, as NAME=VALUE; the value is JSON if it can be read as such, else a text.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// How long it is valid: 30s, 10m, 1h.
    #[arg(long, default_value = "1h")]
    ttl: String,
}

pub(super) fn run(arguments: &AuthArgs) -> anyhow::Result<ExitCode> {
    let AuthCommand::Token(arguments) = &arguments.command;
    if arguments.sub.is_empty() {
        bail!("--sub must not be empty");
    }
    let ttl = crate::config::duration(&arguments.ttl).map_err(anyhow::Error::msg)?;
    if ttl < Duration::from_secs(1) {
        bail!("--ttl must be at least 1s");
    }
    let mut claims = Claims::new();
    for text in &arguments.claim {
        let (name, value) = text.split_once('=').with_context(|| {
            format!("`{text}` is not a claim: write NAME=VALUE, as in --claim role=admin")
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        claims.insert(name.to_owned(), value);
    }
    let data = &arguments.data;
    if !data.is_dir() {
        bail!(
            "there is no data folder {}: start the house once, or name its folder with --data",
            data.display()
        );
    }
    println!("{}", DevIssuer::open(data)?.token(&arguments.sub, claims, ttl));
    Ok(ExitCode::SUCCESS)
}
