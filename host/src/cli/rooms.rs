//! `guesthouse rooms`: the rooms of a running house.

use super::client::{Client, ClientArgs, segment};
use anyhow::Context;
use reqwest::Method;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

/// Show and close the rooms of a running house.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RoomsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Only the rooms of this plugin.
    plugin: Option<String>,
    #[command(subcommand)]
    command: Option<RoomsCommand>,
}

#[derive(clap::Subcommand)]
enum RoomsCommand {
    /// Everything that is known of one room.
    Show { plugin: String, room: String },
    /// Close all connections of a room; clients are told 1001.
    Close { plugin: String, room: String },
    /// Write what a room keeps as JSON lines, keys and values in base64.
    Export { plugin: String, room: String },
    /// Close all connections of a room and delete everything that it keeps.
    Delete { plugin: String, room: String },
}

pub(super) async fn run(arguments: RoomsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    match arguments.command {
        None => list(&client, arguments.plugin.as_deref()).await?,
        Some(RoomsCommand::Show { plugin, room }) => {
            let room = call(&client, Method::GET, &path(&plugin, &room)).await?;
            println!("{}", serde_json::to_string_pretty(&room)?);
        }
        Some(RoomsCommand::Close { plugin, room }) => {
            let path = format!("{}/close", path(&plugin, &room));
            let answer = call(&client, Method::POST, &path).await?;
            println!("{} connections closed", number(&answer, "closed"));
        }
        Some(RoomsCommand::Export { plugin, room }) => export(&client, &plugin, &room).await?,
        Some(RoomsCommand::Delete { plugin, room }) => {
            call(&client, Method::DELETE, &path(&plugin, &room)).await?;
            println!("deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(plugin: &str, room: &str) -> String {
    format!("/v1/rooms/{}/{}", segment(plugin), segment(room))
}

async fn call(client: &Client, method: Method, path: &str) -> anyhow::Result<Value> {
    let response = client.send(client.request(method, path)).await?;
    response.json().await.context("the house gave no JSON")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

async fn list(client: &Client, plugin: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let columns = ["PLUGIN", "ROOM", "SOCKETS", "STATE", "BYTES", "KEYS", "EVENTS/S", "ALARM"];
    let [a, b, c, d, e, f, g, h] = columns;
    writeln!(out, "{a:16} {b:24} {c:>8} {d:6} {e:>12} {f:>9} {g:>9} {h}")?;
    let mut after: Option<String> = None;
    loop {
        let mut path = "/v1/rooms?".to_owned();
        if let Some(plugin) = plugin {
            path.push_str(&format!("plugin={}", segment(plugin)));
        }
        if let Some(after) = &after {
            path.push_str(&format!("&after={}", segment(after)));
        }
        let page = call(client, Method::GET, &path).await?;
        for room in page.get("rooms").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| room.get(key).and_then(Value::as_str).unwrap_or_default();
            let awake = room.get("awake").and_then(Value::as_bool).unwrap_or(false);
            let alarm = match room.get("alarm") {
                Some(alarm) if alarm.get("parked").and_then(Value::as_bool) == Some(true) => {
                    "parked".to_owned()
                }
                Some(alarm) if alarm.is_object() => number(alarm, "due").to_string(),
                _ => "-".to_owned(),
            };
            writeln!(
                out,
                "{:16} {:24} {:>8} {:6} {:>12} {:>9} {:>9} {alarm}",
                text("plugin"),
                text("name").escape_debug().to_string(),
                number(room, "sockets"),
                if awake { "awake" } else { "asleep" },
                number(room, "bytes"),
                number(room, "keys"),
                room.get("events_per_second").and_then(Value::as_f64).unwrap_or_default(),
            )?;
        }
        // Pages go on within one plugin; over all, the first thousand rooms are shown.
        after = page.get("cursor").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok(());
        }
        if plugin.is_none() {
            writeln!(out, "There are more: name a plugin to see all of its rooms.")?;
            return Ok(());
        }
    }
}

async fn export(client: &Client, plugin: &str, room: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut query = String::new();
    loop {
        let path = format!("{}/export{query}", path(plugin, room));
        let page = call(client, Method::GET, &path).await?;
        for pair in page.get("pairs").and_then(Value::as_array).into_iter().flatten() {
            writeln!(out, "{pair}")?;
        }
        match page.get("cursor").and_then(Value::as_str) {
            Some(cursor) => query = format!("?after={}", segment(cursor)),
            None => return Ok(()),
        }
    }
}
