//! What a dependency may be: its licence, where it comes from, and how exactly it is named.
//!
//! Owns the evaluation of `deny.toml`, whose syntax is cargo-deny's, so that one file serves both. It must
//! never accept what it does not understand: a licence that can't be read is a licence that is refused.

use crate::Workspace;
use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use spdx::{Expression, ParseMode};
use std::collections::BTreeMap;
use toml::Value as Toml;

/// `deny.toml`, in the parts that are evaluated here.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    licences: Vec<String>,
    exceptions: BTreeMap<String, Vec<String>>,
    registries: Vec<String>,
    /// Advisories that were judged not to reach us, with the reason.
    pub(crate) ignored: BTreeMap<String, String>,
}

impl Policy {
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join("deny.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} could not be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a policy", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let file: Toml = toml::from_str(text)?;
        let at = |table: &str, key: &str| file.get(table).and_then(|table| table.get(key));
        for (table, key) in
            [("bans", "wildcards"), ("sources", "unknown-registry"), ("sources", "unknown-git")]
        {
            if at(table, key).and_then(Toml::as_str) != Some("deny") {
                bail!("`{key}` of [{table}] must be \"deny\": nothing else is implemented here");
            }
        }
        let mut policy = Self {
            licences: strings(at("licenses", "allow")),
            registries: strings(at("sources", "allow-registry")),
            ..Self::default()
        };
        for exception in array(at("licenses", "exceptions")) {
            let name = field(exception, "crate")?;
            policy.exceptions.insert(name, strings(exception.get("allow")));
        }
        for entry in array(at("advisories", "ignore")) {
            let reason = field(entry, "reason").context("an ignored advisory needs a reason")?;
            policy.ignored.insert(field(entry, "id")?, reason);
        }
        Ok(policy)
    }

    /// What is wrong with the dependencies that `cargo metadata` names, a sentence each.
    pub(crate) fn violations(&self, metadata: &Json) -> Vec<String> {
        let mut wrong = Vec::new();
        for package in items(metadata, "packages") {
            let name = text(package, "name");
            let source = text(package, "source");
            if source.is_empty() {
                wrong.extend(wildcards(package));
                continue;
            }
            let called = format!("{name} {}", text(package, "version"));
            let registry = source.strip_prefix("registry+").unwrap_or_default();
            if !self.registries.iter().any(|allowed| allowed == registry) {
                wrong.push(format!("{called} comes from {source}, which deny.toml does not allow"));
            }
            let licence = text(package, "license");
            if !self.allows(name, licence) {
                wrong.push(format!(
                    "{called} has the licence `{licence}`, which deny.toml does not allow"
                ));
            }
        }
        wrong
    }

    /// Whether an SPDX expression can be met with allowed licences alone.
    fn allows(&self, name: &str, expression: &str) -> bool {
        let excepted = self.exceptions.get(name).map(Vec::as_slice).unwrap_or_default();
        Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|licence| {
                let licence = licence.to_string();
                self.licences.contains(&licence) || excepted.contains(&licence)
            })
        })
    }
}

/// Dependencies of one of our own packages that any version would satisfy.
fn wildcards(package: &Json) -> impl Iterator<Item = String> + '_ {
    let is_wild = |dependency: &&Json| {
        text(dependency, "req") == "*" && dependency.get("path").is_none_or(Json::is_null)
    };
    items(package, "dependencies").filter(is_wild).map(move |dependency| {
        let (ours, theirs) = (text(package, "name"), text(dependency, "name"));
        format!("{ours} takes any version of {theirs}: name one")
    })
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Json, key: &str) -> impl Iterator<Item = &'a Json> {
    value.get(key).and_then(Json::as_array).into_iter().flatten()
}

fn array(value: Option<&Toml>) -> impl Iterator<Item = &Toml> {
    value.and_then(Toml::as_array).into_iter().flatten()
}

fn strings(value: Option<&Toml>) -> Vec<String> {
    array(value).filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn field(entry: &Toml, key: &str) -> Result<String> {
    let value = entry.get(key).and_then(Toml::as_str).filter(|value| !value.is_empty());
    value.map(str::to_owned).with_context(|| format!("`{key}` is missing in `{entry}`"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    const SAMPLE: &str = r#"
        [advisories]
        ignore = [{ id = "RUSTSEC-2020-0001", reason = "only on Windows" }]
        [licenses]
        allow = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
        exceptions = [{ crate = "odd", allow = ["MPL-2.0"] }]
        [bans]
        wildcards = "deny"
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-registry = ["https://index"]
    "#;

    #[test]
    fn an_expression_must_be_met_by_allowed_licences_alone() {
        let policy = Policy::parse(SAMPLE).unwrap();
        for allowed in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(policy.allows("any", allowed), "{allowed}");
        }
        for refused in
            ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR Unicode-3.0) AND GPL-3.0-only"]
        {
            assert!(!policy.allows("any", refused), "{refused}");
        }
        assert!(
            !policy.allows("any", "Apache-2.0"),
            "an exception to a licence is not the licence"
        );
    }

    #[test]
    fn an_exception_holds_for_its_crate_alone() {
        let policy = Policy::parse(SAMPLE).unwrap();
        assert!(policy.allows("odd", "MPL-2.0"));
        assert!(!policy.allows("other", "MPL-2.0"));
    }

    #[test]
    fn sources_licences_and_wildcards_are_each_reported() {
        let metadata = json!({ "packages": [
            { "name": "good", "version": "1.0.0", "license": "MIT", "source": "registry+https://index" },
            { "name": "fork", "version": "1.0.0", "license": "MIT", "source": "git+https://elsewhere" },
            { "name": "bare", "version": "1.0.0", "license": null, "source": "registry+https://index" },
            { "name": "ours", "version": "0.1.0", "source": null, "dependencies": [
                { "name": "any", "req": "*" },
                { "name": "near", "req": "*", "path": "/near" },
            ] },
        ] });
        let wrong = Policy::parse(SAMPLE).unwrap().violations(&metadata);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        for (line, name) in wrong.iter().zip(["fork", "bare", "ours takes any version of any"]) {
            assert!(line.starts_with(name), "{line}");
        }
    }

    #[test]
    fn a_policy_that_would_not_be_kept_is_refused() {
        let lenient = SAMPLE.replace("unknown-git = \"deny\"", "unknown-git = \"allow\"");
        assert!(Policy::parse(&lenient).unwrap_err().to_string().contains("unknown-git"));
        let unexplained = SAMPLE.replace(", reason = \"only on Windows\"", "");
        assert!(format!("{:#}", Policy::parse(&unexplained).unwrap_err()).contains("reason"));
    }
}
