//! `guesthouse kv`: the data of a running house.

use super::client::{Client, ClientArgs, key_path, segment};
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keys of one atomic write of an import, and bytes after which it is sent.
const BATCH_KEYS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// Read and write the data of a running house.
#[derive(clap::Args)]
pub(super) struct KvArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(clap::Subcommand)]
enum KvCommand {
    /// Write a value to standard output, or to a file.
    Get {
        namespace: String,
        key: String,
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Set a key to a text, to a file, or to what comes on standard input.
    Put {
        namespace: String,
        key: String,
        /// The text; `-` or nothing for standard input.
        value: Option<String>,
        #[arg(long, conflicts_with = "value")]
        file: Option<PathBuf>,
        #[arg(long)]
        metadata: Option<String>,
        /// Seconds after which the key ceases to exist.
        #[arg(long)]
        ttl: Option<u64>,
        /// Only if the key has this version.
        #[arg(long)]
        if_version: Option<u64>,
        /// Only if the key does not exist.
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
    },
    /// List the keys of a namespace; without one, the namespaces.
    List {
        namespace: Option<String>,
        #[arg(long, default_value = "")]
        prefix: String,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key.
    Delete { namespace: String, key: String },
    /// Write a namespace as JSON lines.
    Export {
        namespace: String,
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Read JSON lines into a namespace, in atomic batches. Doing it twice does no harm.
    Import { namespace: String, file: PathBuf },
}

pub(super) async fn run(arguments: KvArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.client)?;
    match arguments.command {
        KvCommand::Get { namespace, key, output } => {
            let request = client.request(Method::GET, &key_path(&namespace, &key));
            let mut body = client.send(request).await?.bytes_stream();
            let mut output = open_output(output)?;
            while let Some(piece) = body.next().await {
                output.write_all(&piece?)?;
            }
            output.flush()?;
        }
        KvCommand::Put { namespace, key, value, file, metadata, ttl, if_version, if_absent } => {
            let body = match (value.as_deref(), file) {
                (_, Some(file)) => tokio::fs::File::open(&file)
                    .await
                    .with_context(|| format!("{} can't be read", file.display()))?
                    .into(),
                (None | Some("-"), None) => {
                    let mut bytes = Vec::new();
                    std::io::stdin().read_to_end(&mut bytes)?;
                    reqwest::Body::from(bytes)
                }
                (Some(text), None) => text.to_owned().into(),
            };
            let mut request = client.request(Method::PUT, &key_path(&namespace, &key)).body(body);
            if let Some(metadata) = metadata {
                request = request.header("x-kv-metadata", STANDARD.encode(metadata));
            }
            if let Some(ttl) = ttl {
                request = request.header("x-kv-ttl", ttl);
            }
            if let Some(version) = if_version {
                request = request.header("x-kv-if-version", version);
            }
            if if_absent {
                request = request.header("x-kv-if-absent", "true");
            }
            let answer: Value = client.send(request).await?.json().await?;
            say!("version {}", answer.get("version").unwrap_or(&Value::Null));
        }
        KvCommand::List { namespace: None, .. } => {
            let answer: Value =
                client.send(client.request(Method::GET, "/v1/kv")).await?.json().await?;
            for name in answer.get("namespaces").and_then(Value::as_array).into_iter().flatten() {
                say!("{}", name.as_str().unwrap_or_default());
            }
        }
        KvCommand::List { namespace: Some(namespace), prefix, json } => {
            let table = !json && std::io::stdout().is_terminal();
            if table {
                say!("{:>10}  {:>10}  KEY", "SIZE", "VERSION");
            }
            each_key(&client, &namespace, &prefix, async |key| {
                if json {
                    say!("{key}");
                } else if table {
                    let number = |name| key.get(name).and_then(Value::as_u64).unwrap_or(0);
                    say!("{:>10}  {:>10}  {}", number("size"), number("version"), name_of(&key));
                } else {
                    say!("{}", name_of(&key));
                }
                Ok(())
            })
            .await?;
        }
        KvCommand::Delete { namespace, key } => {
            let request = client.request(Method::DELETE, &key_path(&namespace, &key));
            let answer: Value = client.send(request).await?.json().await?;
            if answer.get("existed") != Some(&Value::Bool(true)) {
                eprintln!("guesthouse: there was no key `{key}` in `{namespace}`");
                return Ok(ExitCode::from(3));
            }
        }
        KvCommand::Export { namespace, output } => export(&client, &namespace, output).await?,
        KvCommand::Import { namespace, file } => import(&client, &namespace, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open_output(path: Option<PathBuf>) -> anyhow::Result<Box<dyn Write>> {
    Ok(match path {
        Some(path) => Box::new(std::io::BufWriter::new(
            std::fs::File::create(&path)
                .with_context(|| format!("{} can't be written", path.display()))?,
        )),
        None => Box::new(std::io::stdout().lock()),
    })
}

fn name_of(key: &Value) -> &str {
    key.get("key").and_then(Value::as_str).unwrap_or_default()
}

/// Calls `each` for every key, page by page.
async fn each_key(
    client: &Client,
    namespace: &str,
    prefix: &str,
    mut each: impl AsyncFnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cursor = String::new();
    loop {
        let request = client
            .request(Method::GET, &format!("/v1/kv/{}", segment(namespace)))
            .query(&[("prefix", prefix), ("cursor", &cursor)]);
        let mut page: Value = client.send(request).await?.json().await?;
        let keys = page.get_mut("keys").map(Value::take);
        for key in keys.as_ref().and_then(Value::as_array).into_iter().flatten() {
            each(key.clone()).await?;
        }
        match page.get("cursor").and_then(Value::as_str) {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(()),
        }
    }
}

fn progress(what: &str) -> indicatif::ProgressBar {
    let style =
        indicatif::ProgressStyle::with_template("{spinner} {msg} {human_pos} keys, {per_sec}")
            .unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner());
    let bar = indicatif::ProgressBar::new_spinner().with_style(style);
    bar.set_message(what.to_owned());
    bar
}

async fn export(client: &Client, namespace: &str, output: Option<PathBuf>) -> anyhow::Result<()> {
    let mut output = open_output(output)?;
    let bar = progress("exporting");
    each_key(client, namespace, "", async |info| {
        let request = client.request(Method::GET, &key_path(namespace, name_of(&info)));
        let value = client.send(request).await?.bytes().await?;
        let line = json!({
            "key": name_of(&info),
            "value": STANDARD.encode(&value),
            "metadata": info.get("metadata"),
            "expires_at": info.get("expires_at"),
        });
        writeln!(output, "{line}")?;
        bar.inc(1);
        Ok(())
    })
    .await?;
    output.flush()?;
    bar.finish_and_clear();
    eprintln!("{} keys exported", bar.position());
    Ok(())
}

async fn import(client: &Client, namespace: &str, file: &std::path::Path) -> anyhow::Result<()> {
    let shown = file.display();
    let reader = std::fs::File::open(file).with_context(|| format!("{shown} can't be read"))?;
    let bar = progress("importing");
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (number, line) in std::io::BufReader::new(reader).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let entry: Value = serde_json::from_str(&line)
            .with_context(|| format!("line {} of {shown} is not JSON", number + 1))?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let (Some(key), Some(value)) = (text("key"), text("value")) else {
            bail!(
                "line {} of {shown} has no `key` and `value`; {} keys were imported",
                number + 1,
                bar.position()
            );
        };
        bytes += value.len();
        batch.push(json!({"put": {
            "key": key,
            "value": value,
            "metadata": text("metadata").unwrap_or_default(),
            "expires_at": entry.get("expires_at"),
        }}));
        if batch.len() >= BATCH_KEYS || bytes >= BATCH_BYTES {
            send_batch(client, namespace, &mut batch, &bar).await?;
            bytes = 0;
        }
    }
    send_batch(client, namespace, &mut batch, &bar).await?;
    bar.finish_and_clear();
    eprintln!("{} keys imported", bar.position());
    Ok(())
}

async fn send_batch(
    client: &Client,
    namespace: &str,
    batch: &mut Vec<Value>,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let operations = std::mem::take(batch);
    let count = operations.len() as u64;
    let request = client
        .request(Method::POST, &format!("/v1/kv/{}", segment(namespace)))
        .json(&json!({"operations": operations}));
    client.send(request).await?;
    bar.inc(count);
    Ok(())
}
