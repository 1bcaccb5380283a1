//! `guesthouse plugins`, `versions` and `rollback`.

use super::client::{Client, ClientArgs, segment};
use super::deploy::{outcome, show};
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

/// Make an earlier version of a plugin the one that serves.
///
/// Code, configuration and grants go back; data never does: what the newer version has written stays as it is.
#[derive(clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The plugin.
    name: String,
    /// The number of the version; without it, the one before the active one.
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
        let created = version.get("created").and_then(Value::as_u64).unwrap_or_default();
        let created = UNIX_EPOCH + Duration::from_millis(created);
        table.row([
            text(version, "/version"),
            if active { "active" } else { "" }.to_owned(),
            short(&text(version, "/digest")),
            format!("{:.1} kB", size as f64 / 1e3),
            httpdate::fmt_http_date(created),
        ]);
    }
    print!("{table}");
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
