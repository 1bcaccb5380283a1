//! `guesthouse turn`: the relay of a running house.

use super::client::{Client, ClientArgs, segment};
use anyhow::Context;
use reqwest::Method;
use serde_json::Value;
use std::process::ExitCode;

/// Show and end what the relay of a running house relays.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TurnArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Option<TurnCommand>,
}

#[derive(clap::Subcommand)]
enum TurnCommand {
    /// Where the relay listens, and what has happened since the start.
    Show,
    /// End one allocation: what it relays stops at once.
    Kill {
        /// Its number, as `guesthouse turn` lists it.
        id: u64,
    },
    /// End all allocations of a user.
    KillUser {
        /// The user, as `guesthouse turn` lists it.
        user: String,
    },
}

pub(super) async fn run(arguments: TurnArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    match arguments.command {
        None => list(&client).await?,
        Some(TurnCommand::Show) => {
            let relay = call(&client, Method::GET, "/v1/turn").await?;
            say!("{}", serde_json::to_string_pretty(&relay)?);
        }
        Some(TurnCommand::Kill { id }) => {
            call(&client, Method::DELETE, &format!("/v1/turn/allocations/{id}")).await?;
            say!("ended");
        }
        Some(TurnCommand::KillUser { user }) => {
            let path = format!("/v1/turn/users/{}", segment(&user));
            let answer = call(&client, Method::DELETE, &path).await?;
            say!("{} allocations ended", number(&answer, "ended"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn call(client: &Client, method: Method, path: &str) -> anyhow::Result<Value> {
    let response = client.send(client.request(method, path)).await?;
    response.json().await.context("the house gave no JSON")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let answer = call(client, Method::GET, "/v1/turn/allocations").await?;
    let columns =
        ["ID", "USER", "BY", "CLIENT", "RELAY", "LEFT", "TO PEERS", "FROM PEERS", "PEERS"];
    let [a, b, c, d, e, f, g, h, i] = columns;
    say!("{a:>6} {b:18} {c:3} {d:22} {e:22} {f:>6} {g:>12} {h:>12} {i}");
    for one in answer.get("allocations").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        let peers: Vec<&str> = one
            .get("peers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        say!(
            "{:>6} {:18} {:3} {:22} {:22} {:>5}s {:>12} {:>12} {}",
            number(one, "id"),
            text("user").escape_debug(),
            text("transport"),
            text("client"),
            text("relay"),
            number(one, "remaining"),
            number(one, "bytes_to_peers"),
            number(one, "bytes_from_peers"),
            peers.join(" "),
        );
    }
    Ok(())
}
