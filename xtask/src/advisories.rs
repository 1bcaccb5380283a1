//! Known faults of the crates in `Cargo.lock`.
//!
//! Owns `xtask/advisories.json`, a snapshot of RustSec's database for the crates that we use: the database
//! itself can't be fetched from every network at check time. The danger is a snapshot that is silently old or
//! silently incomplete: its date is printed, and so is every crate that came into `Cargo.lock` after it.

use crate::Workspace;
use crate::policy::Policy;
use anyhow::{Context, Result, bail};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    /// Day of the database's last change, as `2026-01-31`.
    date: String,
    /// Commit of the database.
    commit: String,
    /// Every crate that was looked up, with or without an advisory.
    examined: BTreeSet<String>,
    advisories: Vec<Advisory>,
}

/// One entry of the database.
#[derive(Debug, Serialize, Deserialize)]
struct Advisory {
    id: String,
    package: String,
    title: String,
    /// `unmaintained`, `unsound` or `notice`; none for a vulnerability.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    informational: Option<String>,
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Advisory {
    /// Whether no range says that this version is free of it. A version before a release (`1.0.0-rc.1`) is in
    /// no range that does not name it, and counts as affected: the safe side.
    fn affects(&self, version: &Version) -> bool {
        !self.patched.iter().chain(&self.unaffected).any(|range| range.matches(version))
    }

    /// That nobody keeps a crate is no fault yet; everything else is.
    fn is_a_fault(&self) -> bool {
        !matches!(self.informational.as_deref(), Some("unmaintained" | "notice"))
    }

    /// Reads the TOML at the head of an entry. None: the entry was withdrawn.
    fn parse(entry: &str) -> Result<Option<Self>> {
        let (_, rest) = entry.split_once("```toml").context("there is no ```toml block")?;
        let (head, body) = rest.split_once("```").context("the ```toml block has no end")?;
        let head: toml::Value = toml::from_str(head)?;
        let advisory = head.get("advisory").context("there is no [advisory]")?;
        if advisory.get("withdrawn").is_some() {
            return Ok(None);
        }
        let text =
            |key: &str| advisory.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let ranges = |key: &str| -> Result<Vec<VersionReq>> {
            let ranges = head.get("versions").and_then(|versions| versions.get(key));
            let ranges = ranges.and_then(|ranges| ranges.as_array()).into_iter().flatten();
            ranges
                .filter_map(|range| range.as_str())
                .map(|range| range.parse().with_context(|| format!("`{range}` is no range")))
                .collect()
        };
        Ok(Some(Self {
            id: text("id").context("there is no id")?,
            package: text("package").context("there is no package")?,
            title: body
                .lines()
                .find_map(|line| line.strip_prefix("# "))
                .unwrap_or_default()
                .to_owned(),
            informational: text("informational"),
            patched: ranges("patched")?,
            unaffected: ranges("unaffected")?,
        }))
    }
}

/// What the lock file has: crates of registries, with all versions of each.
type Locked = BTreeMap<String, Vec<Version>>;

fn locked(lock: &str) -> Result<Locked> {
    let lock: toml::Value = toml::from_str(lock)?;
    let mut locked = Locked::new();
    for package in lock.get("package").and_then(|list| list.as_array()).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(|value| value.as_str());
        if let (Some(name), Some(version), Some(_)) =
            (text("name"), text("version"), text("source"))
        {
            locked.entry(name.to_owned()).or_default().push(version.parse()?);
        }
    }
    Ok(locked)
}

/// What the snapshot says of a lock file: what must be mended, and what should be known.
#[derive(Debug, Default)]
struct Findings {
    faults: Vec<String>,
    notes: Vec<String>,
}

fn compare(snapshot: &Snapshot, locked: &Locked, ignored: &BTreeMap<String, String>) -> Findings {
    let mut findings = Findings::default();
    for advisory in &snapshot.advisories {
        let versions = locked.get(&advisory.package).into_iter().flatten();
        for version in versions.filter(|version| advisory.affects(version)) {
            let Advisory { id, package, title, .. } = advisory;
            let kind = advisory.informational.as_deref().unwrap_or("vulnerability");
            let what = format!("{package} {version}: {title} ({kind}, {id})");
            match ignored.get(id) {
                Some(reason) => findings.notes.push(format!("{what}; ignored: {reason}")),
                None if advisory.is_a_fault() => findings.faults.push(what),
                None => findings.notes.push(what),
            }
        }
    }
    let unknown: Vec<&str> = locked
        .keys()
        .filter(|name| !snapshot.examined.contains(*name))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        findings.notes.push(format!(
            "not looked up, because newer than the snapshot: {}. `cargo xtask advisories FOLDER`, with a \
             clone of RustSec's advisory-db, makes a new snapshot",
            unknown.join(", ")
        ));
    }
    findings
}

/// Compares `Cargo.lock` with the snapshot, and with the database itself where cargo-deny is installed.
pub(crate) fn check(workspace: &Workspace, policy: &Policy) -> Result<()> {
    let path = workspace.root.join("xtask/advisories.json");
    let snapshot =
        std::fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
    let snapshot: Snapshot = serde_json::from_slice(&snapshot)
        .with_context(|| format!("{} is damaged", path.display()))?;
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock"))?;
    let findings = compare(&snapshot, &locked(&lock)?, &policy.ignored);
    println!(
        "  the snapshot of RustSec's database is of {}: what was found later is not in it",
        snapshot.date
    );
    for note in &findings.notes {
        println!("  {note}");
    }
    if !findings.faults.is_empty() {
        bail!(
            "dependencies with known faults (`cargo update -p NAME`, or an entry with a reason under \
             [advisories] of deny.toml):\n  {}",
            findings.faults.join("\n  ")
        );
    }
    with_cargo_deny(workspace)
}

/// The whole database, today's: where the tool is installed and the network lets it be fetched.
fn with_cargo_deny(workspace: &Workspace) -> Result<()> {
    let deny = |arguments: &[&str]| workspace.cargo().arg("deny").args(arguments).output();
    if !deny(&["--version"]).is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    if !deny(&["fetch", "db"])?.status.success() {
        println!("  cargo-deny is installed, but could not fetch the database: the snapshot it is");
        return Ok(());
    }
    let output = deny(&["check", "--disable-fetch", "advisories"])?;
    if !output.status.success() {
        bail!("`cargo deny check advisories` says:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Makes the snapshot anew from a clone of RustSec's advisory-db, bare or not.
pub(crate) fn renew(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let [database] = arguments else {
        bail!("say where a clone of RustSec's advisory-db is: `cargo xtask advisories FOLDER`");
    };
    let database = Path::new(database);
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock"))?;
    let examined: BTreeSet<String> = locked(&lock)?.into_keys().collect();
    let mut advisories = Vec::new();
    for file in git(database, &["ls-tree", "-r", "--name-only", "HEAD", "crates"])?.lines() {
        let name = file.split('/').nth(1).unwrap_or_default();
        if !examined.contains(name) {
            continue;
        }
        let entry = git(database, &["show", &format!("HEAD:{file}")])?;
        advisories
            .extend(Advisory::parse(&entry).with_context(|| format!("{file} can't be read"))?);
    }
    let log = git(database, &["log", "-1", "--format=%cs %H"])?;
    let (date, commit) = log.trim().split_once(' ').context("the clone has no commit")?;
    let snapshot =
        Snapshot { date: date.to_owned(), commit: commit.to_owned(), examined, advisories };
    let path = workspace.root.join("xtask/advisories.json");
    std::fs::write(&path, serde_json::to_string_pretty(&snapshot)? + "\n")?;
    println!("{}: {} advisories, as of {date}", path.display(), snapshot.advisories.len());
    Ok(())
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("git could not read {}: {}", folder.display(), why.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ENTRY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2021-0072\"\npackage = \"tokio\"\n\n\
        [versions]\npatched = [\">= 1.5.1, < 1.6.0\", \">= 1.8.1\"]\nunaffected = [\"< 0.3.0\"]\n```\n\n\
        # Dropped in the wrong thread\n\nText.\n";

    fn snapshot(entry: &str) -> Snapshot {
        Snapshot {
            date: "2021-07-07".to_owned(),
            commit: String::new(),
            examined: ["tokio".to_owned()].into(),
            advisories: Advisory::parse(entry).unwrap().into_iter().collect(),
        }
    }

    fn with(name: &str, version: &str) -> Locked {
        [(name.to_owned(), vec![version.parse().unwrap()])].into()
    }

    #[test]
    fn a_version_is_affected_unless_a_range_frees_it() {
        let advisory = Advisory::parse(ENTRY).unwrap().unwrap();
        assert_eq!(advisory.title, "Dropped in the wrong thread");
        for (version, affected) in [
            ("0.2.9", false),
            ("0.3.0", true),
            ("1.5.0", true),
            ("1.5.1", false),
            ("1.6.0", true),
            ("1.8.1", false),
            ("2.0.0", false),
            ("1.9.0-rc.1", true),
        ] {
            assert_eq!(advisory.affects(&version.parse().unwrap()), affected, "{version}");
        }
    }

    #[test]
    fn a_fault_stops_unless_it_is_ignored_with_a_reason() {
        let none = BTreeMap::new();
        assert_eq!(compare(&snapshot(ENTRY), &with("tokio", "1.6.0"), &none).faults.len(), 1);
        assert!(compare(&snapshot(ENTRY), &with("tokio", "1.8.1"), &none).faults.is_empty());
        let ignored = [("RUSTSEC-2021-0072".to_owned(), "not used".to_owned())].into();
        let findings = compare(&snapshot(ENTRY), &with("tokio", "1.6.0"), &ignored);
        assert!(findings.faults.is_empty());
        assert!(findings.notes.iter().any(|note| note.ends_with("ignored: not used")));
    }

    #[test]
    fn unsound_is_a_fault_and_unmaintained_a_note() {
        for (kind, faults, notes) in [("unsound", 1, 0), ("unmaintained", 0, 1), ("notice", 0, 1)] {
            let entry = ENTRY
                .replace("\n\n[versions]", &format!("\ninformational = \"{kind}\"\n\n[versions]"));
            let findings = compare(&snapshot(&entry), &with("tokio", "1.6.0"), &BTreeMap::new());
            assert_eq!((findings.faults.len(), findings.notes.len()), (faults, notes), "{kind}");
        }
    }

    #[test]
    fn a_withdrawn_entry_is_none_and_a_damaged_one_an_error() {
        let withdrawn = ENTRY.replace("id =", "withdrawn = \"2022-01-01\"\nid =");
        assert!(Advisory::parse(&withdrawn).unwrap().is_none());
        assert!(Advisory::parse(&ENTRY.replace(">= 1.8.1", "later")).is_err());
        assert!(Advisory::parse("nothing").is_err());
    }

    #[test]
    fn a_crate_that_the_snapshot_does_not_know_is_named() {
        let findings = compare(&snapshot(ENTRY), &with("newcomer", "1.0.0"), &BTreeMap::new());
        assert!(findings.notes.iter().any(|note| note.contains("newcomer")), "{findings:?}");
    }

    #[test]
    fn packages_of_our_own_are_not_looked_up() {
        let lock = "[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"tokio\"\n\
            version = \"1.8.1\"\nsource = \"registry+https://index\"\n";
        assert_eq!(locked(lock).unwrap(), with("tokio", "1.8.1"));
    }
}
