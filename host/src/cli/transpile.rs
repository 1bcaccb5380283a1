//! `guesthouse transpile`: what the transpile plugin of a running house makes of files.
//!
//! A client like any other, of the door for clients: what the plugin was not told to allow, this is not allowed.

use anyhow::{Context, bail};
use reqwest::StatusCode;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make JavaScript of TypeScript and JSX.
#[derive(clap::Args)]
pub(super) struct TranspileArgs {
    /// The sources.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the plugin is routed.
    #[arg(long, env = "GUESTHOUSE_TRANSPILE", default_value = "http://127.0.0.1:8787/transpile")]
    url: String,
    /// The folder for the results, which get the extension .js; without it they go to standard output.
    #[arg(long)]
    out: Option<PathBuf>,
    /// An option of the plugin, as target=es2022; docs/transpile.md lists them. Can be repeated.
    #[arg(long = "option", short = 'o', value_name = "NAME=VALUE")]
    options: Vec<String>,
}

pub(super) async fn run(arguments: TranspileArgs) -> anyhow::Result<ExitCode> {
    let mut options = Vec::new();
    for option in &arguments.options {
        let pair = option.split_once('=');
        options.push(pair.with_context(|| format!("`{option}` is not NAME=VALUE"))?);
    }
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut wrong = 0;
    for file in &arguments.files {
        let source =
            std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
        let name = file.to_string_lossy();
        let request = http
            .post(&arguments.url)
            .query(&[("filename", name.as_ref())])
            .query(&options)
            .header("accept", "text/plain");
        let response = request.body(source).send().await.with_context(|| {
            format!(
                "the house does not answer at {}. Is it running? Name its address with --url",
                arguments.url
            )
        })?;
        let status = response.status();
        let text = response.text().await?;
        match status {
            StatusCode::OK => write(arguments.out.as_deref(), file, &text)?,
            StatusCode::UNPROCESSABLE_ENTITY => {
                eprintln!("{}", text.trim_end());
                wrong += 1;
            }
            _ => bail!("{}: the house answered {status}: {}", file.display(), text.trim_end()),
        }
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(out: Option<&Path>, file: &Path, text: &str) -> anyhow::Result<()> {
    let Some(folder) = out else {
        say!("{}", text.trim_end());
        return Ok(());
    };
    let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
    let path = folder.join(name).with_extension("js");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("{} can't be written", path.display()))
}
