//! `guesthouse deploy`: the configuration of a running house becomes what serves.
//!
//! Owns the order of looking and doing: the plan is shown first, and exactly the plan that was shown is what is
//! deployed. The house reads its own configuration; nothing of the caller's is sent.

use super::client::{Client, ClientArgs};
use super::table::Table;
use crate::config::percent;
use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Make the configuration of a running house what serves.
///
/// The house reads the file that it was started with. The plan is shown first: code, routes, grants and
/// settings that change. Clients don't notice the switch.
#[derive(clap::Args)]
pub(super) struct DeployArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Only this plugin; may be given several times.
    #[arg(long = "plugin", value_name = "NAME")]
    plugins: Vec<String>,
    /// Make a new version even when nothing has changed.
    #[arg(long)]
    force: bool,
    /// Serve new versions to so many callers, as 10%, and the version that serves now to the others.
    ///
    /// `guesthouse promote` ends it well, `guesthouse rollback` takes it back; it is taken back by itself when too
    /// many of its answers are errors.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    canary: Option<u8>,
    /// Give plugins what they do not have, without asking.
    #[arg(long)]
    allow_new_grants: bool,
    /// Only show the plan.
    #[arg(long)]
    dry_run: bool,
    /// Don't ask; new grants need --allow-new-grants all the same.
    #[arg(short, long)]
    yes: bool,
    /// As JSON, for a program.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: DeployArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    let ask = |more: Value| {
        let mut body = json!({
            "plugins": arguments.plugins,
            "force": arguments.force,
            "canary": arguments.canary,
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        client.request(Method::POST, "/v1/deployments").json(&body)
    };
    let planned: Value = client.send(ask(json!({"dry_run": true}))).await?.json().await?;
    let plan = planned.get("plan").unwrap_or(&Value::Null);
    if !arguments.json {
        print!("{}{}", show(plan), restart(plan));
    }
    let idle = changes(plan).next().is_none();
    if arguments.dry_run || idle {
        if arguments.json {
            println!("{planned}");
        } else if idle {
            println!("nothing to deploy: what serves is what the configuration says");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let new_grants = changes(plan).any(|change| !list(change, "/grants/added").is_empty());
    let mut allow = arguments.allow_new_grants;
    let at_terminal = std::io::stdin().is_terminal() && !arguments.json;
    if new_grants && !allow {
        if arguments.yes || !at_terminal {
            bail!(
                "plugins would be given what they do not have: deploy with --allow-new-grants if that is meant"
            );
        }
        allow = confirm("Give these plugins the new grants, and deploy?")?;
        if !allow {
            bail!("nothing was changed");
        }
    } else if !arguments.yes && at_terminal && !confirm("Deploy?")? {
        bail!("nothing was changed");
    }
    let request = ask(json!({"allow_new_grants": allow, "plan": plan.get("id")}));
    let done: Value = client.send(request).await?.json().await?;
    if arguments.json {
        println!("{done}");
    } else {
        println!("{}", outcome(&done));
    }
    Ok(ExitCode::SUCCESS)
}

/// A share of the callers, as `10%` or `10`.
pub(super) fn share(text: &str) -> Result<u8, String> {
    match text.ends_with('%') {
        true => percent(text),
        false => percent(&format!("{text}%")),
    }
}

/// The changes of a plan, without what stays as it is.
fn changes(plan: &Value) -> impl Iterator<Item = &Value> {
    plan.get("plugins").and_then(Value::as_array).into_iter().flatten().filter(|change| {
        change.get("change").and_then(Value::as_str) != Some("unchanged")
            || change.get("ends").is_some_and(Value::is_u64)
    })
}

fn list<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The plan, for a person.
pub(super) fn show(plan: &Value) -> String {
    let mut table = Table::new(&["plugin", "version", "", "what"]);
    for change in changes(plan) {
        let text = |key: &str| change.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| change.get(key).and_then(Value::as_u64);
        let versions = match (number("from"), number("to")) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            (Some(from), None) => format!("{from} → none"),
            (None, Some(to)) => format!("none → {to}"),
            (None, None) => String::new(),
        };
        let mut name = [text("plugin").to_owned(), versions, text("change").to_owned()];
        let mut row = |what: String| {
            let [plugin, versions, word] = std::mem::take(&mut name);
            table.row([plugin, versions, word, what]);
        };
        let before = row_count(change);
        if let Some(percent) = number("canary") {
            row(format!("canary    {percent}% of the callers; the others are served as now"));
        }
        if let Some(ended) = number("ends") {
            row(format!("canary  - version {ended} ends"));
        }
        if let Some(to) = change.pointer("/code/to").and_then(Value::as_str) {
            let short = to.get(..12).unwrap_or(to);
            row(format!("code      sha256:{short}…"));
        }
        for (title, pointer, sign) in [
            ("routes", "/routes/added", '+'),
            ("routes", "/routes/removed", '-'),
            ("grants", "/grants/added", '+'),
            ("grants", "/grants/removed", '-'),
        ] {
            for item in list(change, pointer) {
                row(format!("{title}  {sign} {item}"));
            }
        }
        for setting in settings(change, "settings") {
            row(format!("setting   {setting}"));
        }
        if before == 0 {
            row("nothing but a new version".to_owned());
        }
    }
    table.to_string()
}

/// Settings that differ, in words.
fn settings(value: &Value, key: &str) -> Vec<String> {
    let settings = value.get(key).and_then(Value::as_array).into_iter().flatten();
    let in_words = |setting: &Value| {
        let key = setting.get("key").and_then(Value::as_str).unwrap_or_default();
        let value = |key: &str| match setting.get(key) {
            None | Some(Value::Null) => "not set".to_owned(),
            Some(value) => value.to_string(),
        };
        format!("{key}: {} → {}", value("from"), value("to"))
    };
    settings.map(in_words).collect()
}

/// What no deploy applies; empty when there is nothing of the kind.
fn restart(plan: &Value) -> String {
    let settings = settings(plan, "restart");
    if settings.is_empty() {
        return String::new();
    }
    format!(
        "These settings of the house itself take effect when it is started again, and not by a deploy:\n  {}\n",
        settings.join("\n  ")
    )
}

fn row_count(change: &Value) -> usize {
    usize::from(change.pointer("/code/to").is_some_and(Value::is_string))
        + ["/routes/added", "/routes/removed", "/grants/added", "/grants/removed"]
            .iter()
            .map(|pointer| list(change, pointer).len())
            .sum::<usize>()
        + change.get("settings").and_then(Value::as_array).map_or(0, Vec::len)
        + usize::from(change.get("ends").is_some_and(Value::is_u64))
}

/// What was done, in a line.
pub(super) fn outcome(done: &Value) -> String {
    let number = |key: &str| done.get(key).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "deployment {} serves: ready after {} ms, switched in {} µs",
        number("sequence"),
        number("took_ms"),
        number("switch_micros")
    )
}

fn confirm(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_with_every_grant_and_setting() {
        let plan = json!({"plugins": [
            {"plugin": "a", "change": "changed", "from": 1, "to": 2,
             "code": {"from": "x", "to": "0123456789abcdef"},
             "routes": {"added": ["/b"], "removed": []},
             "grants": {"added": ["kv b"], "removed": ["kv a"]},
             "settings": [{"key": "limits.cpu", "from": null, "to": "1s"}]},
            {"plugin": "same", "change": "unchanged", "from": 1, "to": 1},
        ]});
        let shown = show(&plan);
        for part in [
            "1 → 2",
            "sha256:0123456789ab…",
            "+ /b",
            "+ kv b",
            "- kv a",
            "limits.cpu: not set → \"1s\"",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("same"));
        let canary = json!({"plugins": [
            {"plugin": "a", "change": "changed", "from": 1, "to": 3, "canary": 10, "ends": 2,
             "code": {"from": "x", "to": "0123456789abcdef"}},
            {"plugin": "b", "change": "unchanged", "from": 1, "to": 1, "ends": 4},
        ]});
        let shown = show(&canary);
        for part in ["1 → 3", "10% of the callers", "version 2 ends", "version 4 ends"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!((share("10%"), share("10")), (Ok(10), Ok(10)));
        assert!(share("1000").is_err());
        assert_eq!(restart(&plan), "");
        let plan = json!({"restart": [{"key": "auth.plugin", "from": "a", "to": null}]});
        assert!(restart(&plan).contains("  auth.plugin: \"a\" → not set\n"), "{}", restart(&plan));
    }
}
