//! `guesthouse assets`: publishing a site.
//!
//! Owns the way from a folder to a release. Files are kept under the hash of their content, so that what
//! has not changed is not sent again; the switch to the new release is one conditional write, so that two
//! people who publish at once don't undo each other. How the data lies is described in plugins/assets.

use super::client::{Client, ClientArgs, Refused, key_path, segment};
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use walkdir::WalkDir;

/// Uploads at a time.
const UPLOADS: usize = 8;
/// A compressed variant must save at least a twentieth.
const WORTH: u64 = 20;
/// Releases whose files stay, for clients of an old page.
const KEPT_RELEASES: usize = 3;
/// A page of a listing.
const PAGE: &str = "1000";
/// Deletions of one atomic write.
const BATCH: usize = 500;

/// Publish a site to a running house.
#[derive(clap::Args)]
pub(super) struct AssetsArgs {
    #[command(subcommand)]
    command: AssetsCommand,
}

#[derive(clap::Subcommand)]
enum AssetsCommand {
    /// Make the files of a folder the site that is served.
    Publish {
        #[command(flatten)]
        client: ClientArgs,
        /// The folder.
        folder: PathBuf,
        /// The plugin that serves the site.
        #[arg(long, default_value = "assets")]
        plugin: String,
    },
    /// Remove the files of all but the newest three releases.
    Collect {
        #[command(flatten)]
        client: ClientArgs,
        /// The plugin that serves the site.
        #[arg(long, default_value = "assets")]
        plugin: String,
    },
}

pub(super) async fn run(arguments: AssetsArgs) -> anyhow::Result<ExitCode> {
    match arguments.command {
        AssetsCommand::Publish { client, folder, plugin } => {
            let site = Site::of(Client::new(&client)?, &plugin).await?;
            site.publish(&folder).await?;
        }
        AssetsCommand::Collect { client, plugin } => {
            let site = Site::of(Client::new(&client)?, &plugin).await?;
            let (removed, releases) = site.collect().await?;
            println!("{removed} files and {releases} releases removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a site is published to.
struct Site {
    client: Client,
    plugin: String,
    namespace: String,
}

/// A file of the folder.
struct Source {
    /// As the URL has it, not encoded.
    path: String,
    bytes: Vec<u8>,
    sha256: String,
    modified: u64,
    /// Suffix, coding, bytes.
    variants: Vec<(&'static str, &'static str, Vec<u8>)>,
}

impl Site {
    async fn of(client: Client, plugin: &str) -> anyhow::Result<Self> {
        let path = format!("/v1/plugins/{}", segment(plugin));
        let status: Value = client.send(client.request(Method::GET, &path)).await?.json().await?;
        let configured = status.get("config").and_then(|config| config.get("namespace"));
        let namespace = configured.and_then(Value::as_str).unwrap_or("assets");
        let namespace = match namespace {
            "default" => format!("~{plugin}"),
            name => name.to_owned(),
        };
        Ok(Self { client, plugin: plugin.to_owned(), namespace })
    }

    /// A value and its version.
    async fn get(&self, key: &str) -> anyhow::Result<Option<(Value, u64)>> {
        let request = self.client.request(Method::GET, &key_path(&self.namespace, key));
        match self.client.send(request).await {
            Ok(response) => {
                let version = response.headers().get("x-kv-version").and_then(|v| v.to_str().ok());
                let version = version.and_then(|v| v.parse().ok()).unwrap_or(0);
                Ok(Some((response.json().await?, version)))
            }
            Err(error) if refused_with(&error, StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All keys that begin so.
    async fn keys(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = self
                .client
                .request(Method::GET, &format!("/v1/kv/{}", segment(&self.namespace)))
                .query(&[("prefix", prefix), ("limit", PAGE), ("cursor", &cursor)]);
            let page: Value = self.client.send(request).await?.json().await?;
            let found = page.get("keys").and_then(Value::as_array).into_iter().flatten();
            keys.extend(found.filter_map(|key| Some(key.get("key")?.as_str()?.to_owned())));
            match page.get("cursor").and_then(Value::as_str) {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(keys),
            }
        }
    }

    async fn write(&self, operations: Vec<Value>, purge: bool) -> anyhow::Result<()> {
        let purge: &[&str] = if purge { &[&self.plugin] } else { &[] };
        let request = self
            .client
            .request(Method::POST, &format!("/v1/kv/{}", segment(&self.namespace)))
            .json(&json!({"operations": operations, "purge": purge}));
        self.client.send(request).await.map(drop)
    }

    async fn publish(&self, folder: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        let paths = walk(folder)?;
        let before = self.get("current").await?;
        let there: BTreeSet<String> = self.keys("file/").await?.into_iter().collect();

        let bar = progress(paths.len());
        let uploads = stream::iter(paths)
            .map(|(path, file)| {
                let bar = bar.clone();
                let there = &there;
                async move {
                    let source = tokio::task::spawn_blocking(move || read(path, &file)).await??;
                    let (sent, bytes) = self.upload(&source, there).await?;
                    bar.inc(1);
                    anyhow::Ok((entry(&source), sent, bytes))
                }
            })
            .buffer_unordered(UPLOADS)
            .try_collect::<Vec<_>>()
            .await?;
        bar.finish_and_clear();

        let (count, sent, bytes) =
            uploads.iter().fold((0, 0, 0), |(count, new, bytes), (_, sent, size)| {
                (count + 1, new + usize::from(*sent), bytes + size)
            });
        let files: BTreeMap<String, Value> = uploads.into_iter().map(|(entry, ..)| entry).collect();
        let manifest: Map<String, Value> = files
            .iter()
            .map(|(path, file)| (path.clone(), file.get("name").cloned().unwrap_or_default()))
            .collect();
        let manifest = Value::Object(manifest).to_string();
        self.switch(&manifest, &files, before.as_ref().map(|(_, version)| *version)).await?;
        self.collect().await?;

        println!("published {} to plugin `{}`", folder.display(), self.plugin);
        println!("  {:<10} {count}", "files");
        println!("  {:<10} {sent} ({:.1} kB sent)", "new", bytes as f64 / 1e3);
        println!("  {:<10} {}", "unchanged", count - sent);
        println!("  {:<10} {:.1} s", "took", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Sends what is not there. Says whether anything was, and how many bytes.
    async fn upload(
        &self,
        source: &Source,
        there: &BTreeSet<String>,
    ) -> anyhow::Result<(bool, usize)> {
        let plain = format!("file/{}", source.sha256);
        let mut sent = 0;
        let mut new = false;
        let variants =
            source.variants.iter().map(|(suffix, _, bytes)| (format!("{plain}.{suffix}"), bytes));
        // The plain bytes last: where they are, the variants are, too.
        for (key, bytes) in variants.chain([(plain.clone(), &source.bytes)]) {
            if there.contains(&key) {
                continue;
            }
            let request = self.client.request(Method::PUT, &key_path(&self.namespace, &key));
            self.client
                .send(request.body(bytes.clone()))
                .await
                .with_context(|| format!("`{}` could not be sent", source.path))?;
            sent += bytes.len();
            new = true;
        }
        Ok((new, sent))
    }

    /// The release, and the pointer to it, in one step.
    async fn switch(
        &self,
        manifest: &str,
        files: &BTreeMap<String, Value>,
        before: Option<u64>,
    ) -> anyhow::Result<()> {
        let mut former = self.keys("release/").await?;
        former.sort_unstable();
        let former: Vec<&str> = former
            .iter()
            .rev()
            .take(KEPT_RELEASES - 1)
            .filter_map(|key| key.strip_prefix("release/"))
            .collect();
        let release = json!({"manifest": manifest, "files": files, "former": former}).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        // Sorts by time, and says what is in it.
        let id =
            format!("{now:013}-{}", hex::encode(Sha256::digest(&release)).get(..12).unwrap_or(""));
        let mut pointer = json!({
            "key": "current",
            "value": STANDARD.encode(json!({"release": id}).to_string()),
        });
        if let Some(pointer) = pointer.as_object_mut() {
            match before {
                Some(version) => pointer.insert("if_version".to_owned(), version.into()),
                None => pointer.insert("if_absent".to_owned(), true.into()),
            };
        }
        let operations = vec![
            json!({"put": {"key": format!("release/{id}"), "value": STANDARD.encode(&release)}}),
            json!({"put": pointer}),
        ];
        match self.write(operations, true).await {
            Err(error) if refused_with(&error, StatusCode::CONFLICT) => bail!(Refused {
                status: StatusCode::CONFLICT,
                message: "someone else published while this was being sent, and nothing was switched. Publish \
                          again if yours is the one"
                    .to_owned(),
            }),
            result => result,
        }
    }

    /// Removes releases that are no longer kept, and files that no release names.
    async fn collect(&self) -> anyhow::Result<(usize, usize)> {
        let mut releases = self.keys("release/").await?;
        releases.sort_unstable();
        let kept = releases.split_off(releases.len().saturating_sub(KEPT_RELEASES));
        let mut named = BTreeSet::new();
        for key in &kept {
            let Some((release, _)) = self.get(key).await? else { continue };
            let files = release.get("files").and_then(Value::as_object).into_iter().flatten();
            named.extend(
                files.filter_map(|(_, file)| Some(file.get("sha256")?.as_str()?.to_owned())),
            );
        }
        let unnamed = |key: &String| {
            let hash = key.trim_start_matches("file/").split('.').next().unwrap_or_default();
            !named.contains(hash)
        };
        let files: Vec<String> = if releases.is_empty() {
            Vec::new()
        } else {
            self.keys("file/").await?.into_iter().filter(unnamed).collect()
        };
        for batch in files.iter().chain(&releases).collect::<Vec<_>>().chunks(BATCH) {
            let operations = batch.iter().map(|key| json!({"delete": {"key": key}})).collect();
            self.write(operations, false).await?;
        }
        Ok((files.len(), releases.len()))
    }
}

fn refused_with(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}

/// URL path → file, without hidden ones but for `.well-known`.
fn walk(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    let mut files = Vec::new();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0
            || !entry.file_name().to_string_lossy().starts_with('.')
            || entry.file_name() == ".well-known"
    };
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(visible) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let relative = entry.path().strip_prefix(folder)?;
        let path = relative
            .to_str()
            .with_context(|| format!("the name of {} is not UTF-8", relative.display()))?;
        files.push((path.to_owned(), entry.into_path()));
    }
    if files.is_empty() {
        bail!(
            "{} has no files in it, and publishing nothing would take the site away",
            folder.display()
        );
    }
    Ok(files)
}

fn progress(files: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(files as u64).with_style(style)
}

fn read(path: String, file: &Path) -> anyhow::Result<Source> {
    let bytes = std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
    let modified = std::fs::metadata(file)?.modified()?.duration_since(UNIX_EPOCH)?.as_secs();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let variants = if is_compressible(&path) { compress(&bytes)? } else { Vec::new() };
    Ok(Source { path, bytes, sha256, modified, variants })
}

fn is_compressible(path: &str) -> bool {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    kind.type_() == "text"
        || kind.suffix().is_some_and(|suffix| suffix == "xml" || suffix == "json")
        || matches!(
            kind.subtype().as_str(),
            "javascript" | "json" | "xml" | "wasm" | "manifest+json" | "x-javascript"
        )
}

/// The variants that are worth their place.
fn compress(bytes: &[u8]) -> anyhow::Result<Vec<(&'static str, &'static str, Vec<u8>)>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes)?;
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 64 << 10, 9, 22);
    brotli.write_all(bytes)?;
    let all = [
        ("br", "br", brotli.into_inner()),
        ("gz", "gzip", gzip.finish()?),
        ("zst", "zstd", zstd::encode_all(bytes, 15)?),
    ];
    let size = bytes.len() as u64;
    Ok(all.into_iter().filter(|(_, _, out)| (out.len() as u64) < size - size / WORTH).collect())
}

/// What the release says of a file.
fn entry(source: &Source) -> (String, Value) {
    let short = source.sha256.get(..10).unwrap_or_default();
    let (folder, name) =
        source.path.rsplit_once('/').map_or(("", source.path.as_str()), |(f, n)| (f, n));
    let hashed = match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{short}.{extension}"),
        None => format!("{name}.{short}"),
    };
    let hashed = if folder.is_empty() { hashed } else { format!("{folder}/{hashed}") };
    let encodings: Map<String, Value> = source
        .variants
        .iter()
        .map(|(_, coding, bytes)| ((*coding).to_owned(), bytes.len().into()))
        .collect();
    let file = json!({
        "name": hashed,
        "sha256": source.sha256,
        "size": source.bytes.len(),
        "modified": source.modified,
        "encodings": encodings,
    });
    (source.path.clone(), file)
}
