//! `guesthouse plugins`, `versions`, `promote` and `rollback`.

use super::client::{Client, ClientArgs, segment};
use super::deploy::{outcome, share, show};
use super::table::Table;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// Show the plugins of a running house.
#[derive(clap::Args)]
pub(super) struct PluginsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

/// Show the kept versions of a plugin, the newest first.
#[derive(clap::Args)]
pub(super) struct VersionsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The plugin.
    name: String,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

/// Serve a canary to more callers, or to all.
///
/// Without a share the canary becomes the version that serves all callers, and the one beside it ends.
#[derive(clap::Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The plugin.
    name: String,
    /// So many callers, as 50%.
    #[arg(value_parser = share)]
    share: Option<u8>,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

/// Make an earlier version of a plugin the one that serves, or take its canary back.
///
/// Code, configuration and grants go back; data never does: what the newer version has written stays as it is.
#[derive(clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The plugin.
    name: String,
    /// The number of the version; without it, the one before the active one, or the one beside the canary.
    version: Option<u64>,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A time in milliseconds since 1970, for a person.
fn date(value: &Value, pointer: &str) -> String {
    let at = value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at))
}

fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(super) async fn plugins(arguments: PluginsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    let answer: Value =
        client.send(client.request(Method::GET, "/v1/plugins")).await?.json().await?;
    if arguments.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["plugin", "state", "version", "digest", "requests", "failures", "routes"]);
    for plugin in items(&answer, "plugins") {
        let routes: Vec<&str> = items(plugin, "routes").filter_map(Value::as_str).collect();
        table.row([
            text(plugin, "/name"),
            text(plugin, "/state"),
            text(plugin, "/number"),
            short(&text(plugin, "/digest")),
            text(plugin, "/version/requests"),
            text(plugin, "/version/failures"),
            routes.join(", "),
        ]);
    }
    print!("{table}");
    for plugin in items(&answer, "plugins") {
        let (name, of) = (text(plugin, "/name"), |key: &str| text(plugin, key));
        if plugin.get("canary").is_some_and(Value::is_object) {
            println!(
                "\n{name}: canary: version {} ({}) serves {}% of the callers since {}; of its last {} answers {} were \
                 errors, and it trapped {} times.",
                of("/canary/number"),
                of("/canary/state"),
                of("/canary/percent"),
                date(plugin, "/canary/since"),
                of("/canary/last_answers"),
                of("/canary/errors"),
                of("/canary/traps"),
            );
        }
        if plugin.get("rolled_back").is_some_and(Value::is_object) {
            println!(
                "\n{name}: the canary, version {}, was taken back by itself on {}: {}.",
                of("/rolled_back/number"),
                date(plugin, "/rolled_back/at"),
                of("/rolled_back/reason"),
            );
        }
        if let Some(message) = plugin.get("message").and_then(Value::as_str) {
            println!("\n{}: {message}", text(plugin, "/name"));
        }
    }
    let deployments: Value =
        client.send(client.request(Method::GET, "/v1/deployments")).await?.json().await?;
    for old in items(&deployments, "draining") {
        println!(
            "\n{}: version {} was replaced {} s ago and finishes what it holds; requests at work: {}.",
            text(old, "/plugin"),
            text(old, "/version"),
            text(old, "/for_seconds"),
            text(old, "/running"),
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn versions(arguments: VersionsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    let path = format!("/v1/plugins/{}/versions", segment(&arguments.name));
    let answer: Value = client.send(client.request(Method::GET, &path)).await?.json().await?;
    if arguments.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["version", "", "digest", "size", "deployed"]);
    for version in items(&answer, "versions") {
        let active = version.get("active").and_then(Value::as_bool) == Some(true);
        let size = version.get("size").and_then(Value::as_u64).unwrap_or_default();
        let canary = version.get("canary").and_then(Value::as_u64);
        let standing = match (active, canary) {
            (true, _) => "active".to_owned(),
            (_, Some(percent)) => format!("canary {percent}%"),
            _ if version.get("rolled_back").is_some_and(Value::is_string) => {
                "taken back".to_owned()
            }
            _ => String::new(),
        };
        table.row([
            text(version, "/version"),
            standing,
            short(&text(version, "/digest")),
            format!("{:.1} kB", size as f64 / 1e3),
            date(version, "/created"),
        ]);
    }
    print!("{table}");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn promote(arguments: PromoteArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    let path = format!("/v1/plugins/{}/promote", segment(&arguments.name));
    let request = client.request(Method::POST, &path).json(&json!({"percent": arguments.share}));
    let done: Value = client.send(request).await?.json().await?;
    if arguments.json {
        println!("{done}");
    } else {
        print!("{}", show(done.get("plan").unwrap_or(&Value::Null)));
        println!("{}", outcome(&done));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rollback(arguments: RollbackArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    let path = format!("/v1/plugins/{}/rollback", segment(&arguments.name));
    let request = client.request(Method::POST, &path).json(&json!({"version": arguments.version}));
    let done: Value = client.send(request).await?.json().await?;
    if arguments.json {
        println!("{done}");
        return Ok(ExitCode::SUCCESS);
    }
    if done.get("deployed").and_then(Value::as_bool) == Some(true) {
        print!("{}", show(done.get("plan").unwrap_or(&Value::Null)));
        println!("{}", outcome(&done));
        println!(
            "Code and configuration went back; data did not. The configuration file still says what it said: the \
             next `guesthouse deploy` applies it."
        );
    } else {
        println!("nothing to do: that version serves already");
    }
    Ok(ExitCode::SUCCESS)
}
