//! What a deployment would change, before it changes anything.
//!
//! Owns the comparison of what is active with what is wanted, key by key, and the question which of the
//! changes gives a plugin more than it had. It compares tables as they were written, so a key that it has
//! never heard of is shown and never overlooked. The danger that shaped it: a line that grants something,
//! deployed by someone who looked at the code only.

use super::records::Record;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of a plugin's table that give it something.
const GRANTS: [&str; 6] = ["kv", "secrets", "fetch", "inject", "calls", "peers"];
/// The key of a plugin's rooms: having any is a grant, and what is in it is what it is anywhere else.
const ROOMS: &str = "rooms";

/// What is to happen to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It gets a new version.
    Changed,
    /// It is no longer there.
    Removed,
    /// Nothing.
    Unchanged,
}

/// What a list gains and loses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is new.
    pub added: Vec<String>,
    /// What is gone.
    pub removed: Vec<String>,
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// The key, with its table: `limits.cpu`.
    pub key: String,
    /// What it was; null: not set.
    pub from: Value,
    /// What it will be; null: not set.
    pub to: Value,
}

/// The component before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    /// SHA-256; none: the plugin is new.
    pub from: Option<String>,
    /// SHA-256; none: the plugin goes.
    pub to: Option<String>,
}

/// What is to happen to one plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The plugin.
    pub plugin: String,
    /// In a word.
    pub change: Kind,
    /// The version that serves.
    pub from: Option<u64>,
    /// The version that will.
    pub to: Option<u64>,
    /// Of a hundred callers so many get it, and the others the version that serves now; none: all get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u8>,
    /// The canary that ends without taking over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<u64>,
    /// The component, when it differs.
    pub code: Option<Code>,
    /// Routes.
    pub routes: Difference,
    /// What it may reach: `kv assets`, `secrets KEY`.
    pub grants: Difference,
    /// Everything else in its table.
    pub settings: Vec<Setting>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Names this plan: who has seen it can ask for exactly it.
    pub id: String,
    /// The number of the deployment that it starts from.
    pub base: u64,
    /// Plugin by plugin.
    pub plugins: Vec<Change>,
    /// Settings of the house itself that differ from those it was started with: no deployment applies them.
    pub restart: Vec<Setting>,
}

impl Plan {
    /// Compares. `latest` has the highest number that each plugin has ever had; with `force` a plugin gets a
    /// new version though nothing has changed. What changes does so for a share of the callers if `canary` says so.
    pub(super) fn new(
        base: u64,
        active: &BTreeMap<String, Record>,
        wanted: &BTreeMap<String, Record>,
        force: &dyn Fn(&str) -> bool,
        canary: Option<u8>,
    ) -> Self {
        let names: BTreeSet<&String> = active.keys().chain(wanted.keys()).collect();
        let mut plugins: Vec<Change> = names
            .into_iter()
            .map(|name| Change::new(name, active.get(name), wanted.get(name), force(name)))
            .collect();
        for change in plugins.iter_mut().filter(|change| change.change != Kind::Unchanged) {
            change.canary = canary;
        }
        let text = serde_json::to_string(&(base, &plugins)).unwrap_or_default();
        let id = hex::encode(Sha256::digest(text)).chars().take(16).collect();
        Self { id, base, plugins, restart: Vec::new() }
    }

    /// Says which settings of the house itself differ, for which it must be started again.
    pub(super) fn with_house(mut self, was: &Map<String, Value>, is: &Map<String, Value>) -> Self {
        let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for key in keys {
            compare(key, was.get(key), is.get(key), &mut self.restart);
        }
        self
    }

    /// Notes that a canary ends without taking over.
    pub(super) fn ends(&mut self, plugin: &str, number: u64) {
        for change in self.plugins.iter_mut().filter(|change| change.plugin == plugin) {
            change.ends = Some(number);
        }
    }

    /// Whether anything happens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plugins.iter().all(|change| change.change == Kind::Unchanged)
    }

    /// What plugins would be given that they do not have: plugin and grant.
    #[must_use]
    pub fn new_grants(&self) -> Vec<String> {
        self.plugins
            .iter()
            .flat_map(|change| {
                change.grants.added.iter().map(|grant| format!("{}: {grant}", change.plugin))
            })
            .collect()
    }

    /// One line for the log: what differs.
    #[must_use]
    pub fn summary(&self) -> String {
        let changed = self
            .plugins
            .iter()
            .filter(|change| change.change != Kind::Unchanged || change.ends.is_some());
        changed.map(Change::summary).collect::<Vec<_>>().join("; ")
    }
}

impl Change {
    fn new(name: &str, from: Option<&Record>, to: Option<&Record>, force: bool) -> Self {
        let empty = Map::new();
        let before = from.map_or(&empty, |record| &record.table);
        let after = to.map_or(&empty, |record| &record.table);
        let (mut grants, mut settings) = (Difference::default(), Vec::new());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (was, is) = (before.get(key), after.get(key));
            match key.as_str() {
                "routes" => {}
                ROOMS => {
                    match (was, is) {
                        (None, Some(_)) => grants.added.push(ROOMS.to_owned()),
                        (Some(_), None) => grants.removed.push(ROOMS.to_owned()),
                        _ => {}
                    }
                    let (was, is) = (without_routes(was), without_routes(is));
                    compare(ROOMS, was.as_ref(), is.as_ref(), &mut settings);
                }
                key if GRANTS.contains(&key) => grants.extend(key, was, is),
                key => compare(key, was, is, &mut settings),
            }
        }
        let mut routes = Difference::default();
        routes.extend("", before.get("routes"), after.get("routes"));
        routes.extend("rooms", rooms_routes(before), rooms_routes(after));
        let digest = |record: Option<&Record>| record.map(|record| record.digest.clone());
        let (was, is) = (digest(from), digest(to));
        let code = (was != is).then_some(Code { from: was, to: is });
        let same = code.is_none() && before == after;
        let change = match (from, to) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ if same && !force => Kind::Unchanged,
            _ => Kind::Changed,
        };
        let number = |record: &Record| record.number;
        Self {
            plugin: name.to_owned(),
            change,
            from: from.map(number),
            to: if change == Kind::Unchanged { from.map(number) } else { to.map(number) },
            canary: None,
            ends: None,
            code,
            routes,
            grants,
            settings,
        }
    }

    fn summary(&self) -> String {
        let mut what = Vec::new();
        if self.change == Kind::Changed {
            what.extend(self.code.is_some().then(|| "code".to_owned()));
            what.extend((!self.routes.is_empty()).then(|| "routes".to_owned()));
            what.extend((!self.grants.is_empty()).then(|| "grants".to_owned()));
            what.extend(self.settings.iter().map(|setting| setting.key.clone()));
        }
        let word = match self.change {
            Kind::Added => "is new",
            Kind::Changed => "differs in",
            Kind::Removed => "is gone",
            Kind::Unchanged => "is the same",
        };
        let mut text =
            format!("`{}` {word} {}", self.plugin, what.join(", ")).trim_end().to_owned();
        if let Some(percent) = self.canary {
            text.push_str(&format!(" for {percent}% of its callers"));
        }
        if let Some(number) = self.ends {
            text.push_str(&format!(", and its canary, version {number}, ends"));
        }
        text
    }
}

impl Difference {
    /// Whether nothing comes and nothing goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn extend(&mut self, key: &str, was: Option<&Value>, is: Option<&Value>) {
        let (was, is) = (items(key, was), items(key, is));
        self.added.extend(is.difference(&was).cloned());
        self.removed.extend(was.difference(&is).cloned());
    }
}

fn rooms_routes(table: &Map<String, Value>) -> Option<&Value> {
    table.get(ROOMS)?.get("routes")
}

/// The settings of rooms; routes are shown among routes.
fn without_routes(rooms: Option<&Value>) -> Option<Value> {
    let mut rooms = rooms?.clone();
    if let Some(table) = rooms.as_object_mut() {
        table.remove("routes");
    }
    Some(rooms)
}

/// What a grant's value lists, each with the key in front.
fn items(key: &str, value: Option<&Value>) -> BTreeSet<String> {
    let name = |text: &str| format!("{key} {text}").trim_start().to_owned();
    let plain = |value: &Value| match value {
        Value::String(text) => name(text),
        other => name(&other.to_string()),
    };
    match value {
        None | Some(Value::Null | Value::Bool(false)) => BTreeSet::new(),
        Some(Value::Array(list)) => list.iter().map(plain).collect(),
        Some(Value::Object(table)) => {
            table.iter().map(|(entry, value)| name(&format!("{entry} = {value}"))).collect()
        }
        Some(other) => BTreeSet::from([plain(other)]),
    }
}

/// Settings that differ; a table is compared key by key.
fn compare(key: &str, was: Option<&Value>, is: Option<&Value>, into: &mut Vec<Setting>) {
    if was == is {
        return;
    }
    let empty = Map::new();
    let tables = match (was, is) {
        (Some(Value::Object(was)), Some(Value::Object(is))) => Some((was, is)),
        (Some(Value::Object(was)), None) => Some((was, &empty)),
        (None, Some(Value::Object(is))) => Some((&empty, is)),
        _ => None,
    };
    match tables {
        Some((was, is)) => {
            let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for inner in keys {
                compare(&format!("{key}.{inner}"), was.get(inner), is.get(inner), into);
            }
        }
        None => into.push(Setting {
            key: key.to_owned(),
            from: was.cloned().unwrap_or_default(),
            to: is.cloned().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(digest: &str, table: Value) -> Record {
        let Value::Object(table) = table else { unreachable!() };
        Record { plugin: "a".into(), number: 1, digest: digest.into(), size: 1, created: 0, table }
    }

    fn plan(active: Option<Record>, wanted: Option<Record>) -> Plan {
        let map = |record: Option<Record>| record.map(|record| ("a".to_owned(), record));
        Plan::new(
            1,
            &map(active).into_iter().collect(),
            &map(wanted).into_iter().collect(),
            &|_| false,
            None,
        )
    }

    #[test]
    fn what_is_the_same_is_unchanged_whatever_the_order_of_its_keys() {
        let one = record("x", json!({"kv": ["a"], "cache": true}));
        let two = record("x", json!({"cache": true, "kv": ["a"]}));
        assert!(plan(Some(one), Some(two)).is_empty());
    }

    #[test]
    fn each_change_is_named_by_its_kind() {
        let before = record(
            "x",
            json!({"routes": ["/a"], "kv": ["a"], "limits": {"cpu": "1s"}, "config": {"k": "1"}}),
        );
        let after = record(
            "y",
            json!({"routes": ["/b"], "kv": ["a", "b"], "secrets": ["KEY"], "calls": ["c"], "limits": {"cpu": "2s"},
                   "config": {"l": "2"}, "cache": true}),
        );
        let plan = plan(Some(before), Some(after));
        let change = &plan.plugins[0];
        assert_eq!(change.change, Kind::Changed);
        assert_eq!(change.code.as_ref().unwrap().to.as_deref(), Some("y"));
        assert_eq!(change.routes.added, ["/b"]);
        assert_eq!(change.routes.removed, ["/a"]);
        assert_eq!(change.grants.added, ["calls c", "kv b", "secrets KEY"]);
        let keys: Vec<&str> = change.settings.iter().map(|s| s.key.as_str()).collect();
        assert_eq!(keys, ["cache", "config.k", "config.l", "limits.cpu"]);
        assert_eq!(plan.new_grants(), ["a: calls c", "a: kv b", "a: secrets KEY"]);
        assert_eq!(
            plan.summary(),
            "`a` differs in code, routes, grants, cache, config.k, config.l, limits.cpu"
        );
    }

    #[test]
    fn rooms_are_a_grant_and_what_is_in_them_is_shown_as_what_it_is() {
        let rooms = |rooms: Value| Some(record("x", json!({ "rooms": rooms })));
        let some = || rooms(json!({"routes": ["/a/{room}"], "idle": "1s"}));
        let new = plan(Some(record("x", json!({}))), some());
        assert_eq!(new.new_grants(), ["a: rooms"]);
        assert_eq!(new.plugins[0].routes.added, ["rooms /a/{room}"]);
        let other = rooms(json!({"routes": ["/b/{room}"], "idle": "2s", "origins": ["*"]}));
        let changed = plan(some(), other);
        assert!(changed.new_grants().is_empty());
        assert_eq!(changed.plugins[0].routes.added, ["rooms /b/{room}"]);
        assert_eq!(changed.plugins[0].routes.removed, ["rooms /a/{room}"]);
        let keys: Vec<&str> = changed.plugins[0].settings.iter().map(|s| s.key.as_str()).collect();
        assert_eq!(keys, ["rooms.idle", "rooms.origins"]);
        assert_eq!(plan(some(), Some(record("x", json!({})))).plugins[0].grants.removed, ["rooms"]);
    }

    #[test]
    fn a_new_plugin_s_grants_are_new_and_a_removed_one_s_are_not() {
        let with = || record("x", json!({"kv": ["a"]}));
        assert_eq!(plan(None, Some(with())).new_grants(), ["a: kv a"]);
        let removed = plan(Some(with()), None);
        assert_eq!(removed.plugins[0].change, Kind::Removed);
        assert!(removed.new_grants().is_empty());
    }

    #[test]
    fn what_a_restart_is_needed_for_is_named_and_is_no_change_of_a_plugin() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let was =
            map(json!({"server": {"threads": 2}, "auth": {"plugin": "a", "cache_for": "1m"}}));
        let is = map(
            json!({"server": {"threads": 2}, "auth": {"plugin": "b"}, "cache": {"max_bytes": 0}}),
        );
        let plan = plan(None, None).with_house(&was, &is);
        let keys: Vec<&str> = plan.restart.iter().map(|setting| setting.key.as_str()).collect();
        assert_eq!(keys, ["auth.cache_for", "auth.plugin", "cache.max_bytes"]);
        assert!(plan.is_empty());
    }

    proptest! {
        #[test]
        fn every_difference_of_two_tables_is_in_the_plan(
            before in proptest::collection::btree_map("[a-e]", 0..3_u8, 0..5),
            after in proptest::collection::btree_map("[a-e]", 0..3_u8, 0..5),
        ) {
            let plan = plan(Some(record("x", json!(before))), Some(record("x", json!(after))));
            prop_assert_eq!(plan.is_empty(), before == after);
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            let differ = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).count();
            prop_assert_eq!(plan.plugins[0].settings.len(), differ);
        }
    }
}
