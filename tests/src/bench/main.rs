//! `cargo xtask bench` builds everything and runs this.
//!
//! It measures a house against the same HTTP server without wasm and against the programs that people would
//! compare it with, in one run on one machine: servers on one core, the load on another, all rows of a table
//! in turns, so that whatever else happens on the machine happens to all of them. What it prints are medians
//! over the rounds, with the smallest and the largest; the measure that survives a busy machine is the CPU
//! time for each request.

mod live;
mod load;
mod measures;
mod native;
mod process;
mod report;
mod rooms;
mod streams;
mod subjects;
mod switch;
mod transpile;
mod turn;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Duration;
use subjects::Tools;

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds over all rows of a table.
    pub rounds: usize,
    /// Before each measurement.
    pub warm_up: Duration,
    /// Each measurement.
    pub measure: Duration,
    /// Starts of a house, switches of a version.
    pub repeats: usize,
}

const FULL: Effort = Effort {
    rounds: 7,
    warm_up: Duration::from_millis(500),
    measure: Duration::from_millis(2000),
    repeats: 15,
};

const QUICK: Effort = Effort {
    rounds: 3,
    warm_up: Duration::from_millis(200),
    measure: Duration::from_millis(700),
    repeats: 5,
};

/// As nice as servers and load are: before whatever else the machine does, where that is allowed.
const PRIORITY: i32 = -10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut tools = Tools::default();
    let mut effort = FULL;
    let mut only = String::new();
    let mut docs = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "native" => return native::serve(value()?.parse()?),
            "native-websocket" => return rooms::serve(value()?.parse()?),
            "--quick" => effort = QUICK,
            "--only" => only = value()?,
            "--docs" => docs = Some(PathBuf::from(value()?)),
            "--wasmtime" => tools.wasmtime = Some(value()?.into()),
            "--workerd" => tools.workerd = Some(value()?.into()),
            "--esbuild" => tools.esbuild = Some(value()?.into()),
            "--transpile" => tools.transpile = Some(value()?.into()),
            "--coturn" => tools.coturn = Some(value()?.into()),
            "--y-websocket" => tools.y_websocket = Some(value()?.into()),
            "--nginx" => tools.nginx = Some(value()?.into()),
            _ => bail!("unknown argument {argument}"),
        }
    }
    process::pin(process::CLIENT_CORE)?;
    process::prefer(PRIORITY);
    let results = measures::all(effort, &tools, &only)?;
    println!("{}", report::text(&results));
    if let Some(docs) = docs {
        report::write(&docs, &results)?;
        println!("written to {}", docs.join("performance.md").display());
    }
    Ok(())
}
