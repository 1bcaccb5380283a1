//! What a person reads: tables for the terminal and for the documentation, and a plot.

use super::measures::{Results, Row, Table, spread};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- bench:begin (written by cargo xtask bench) -->";
const END: &str = "<!-- bench:end -->";

/// The tables in Markdown.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    for table in &results.tables {
        _ = writeln!(text, "### {}\n", table.title);
        text += "| | CPU µs a request | of the first row | requests/s | p50 ms | p99 ms |\n";
        text += "|---|---:|---:|---:|---:|---:|\n";
        let Some(first) = table.rows.first() else { continue };
        for row in &table.rows {
            let (low, middle, high) = spread(row.rounds.iter().map(|round| round.cpu));
            let ratios =
                first.rounds.iter().zip(&row.rounds).map(|(first, row)| first.cpu / row.cpu);
            _ = writeln!(
                text,
                "| {} | {middle:.1} ({low:.1}–{high:.1}) | {:.2} | {:.0} | {:.2} | {:.2} |",
                row.name,
                spread(ratios).1,
                row.median(|round| round.rps),
                row.median(|round| round.p50),
                row.median(|round| round.p99),
            );
        }
        text += "\n";
    }
    if !results.targets.is_empty() {
        text += "### Targets\n\n| measure | target | measured | |\n|---|---|---|---|\n";
        for target in &results.targets {
            let met = if target.met { "met" } else { "**missed**" };
            _ = writeln!(
                text,
                "| {} | {} | {} | {met} |",
                target.what, target.target, target.measured
            );
        }
        text += "\n";
    }
    for skipped in &results.skipped {
        _ = writeln!(text, "Not measured: {}\n", skipped.replace('\n', " "));
    }
    _ = writeln!(
        text,
        "{} rounds; medians, with the smallest and the largest in brackets. {}",
        results.rounds,
        machine()
    );
    text
}

/// What it ran on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{model}, {cores} cores, Linux {}, load at the end {}.",
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

/// Replaces the generated part of `performance.md` and writes the plots.
pub fn write(docs: &Path, results: &Results) -> Result<()> {
    let file = docs.join("performance.md");
    let before = std::fs::read_to_string(&file)
        .with_context(|| format!("{} can't be read", file.display()))?;
    let (head, rest) = before.split_once(BEGIN).context("performance.md has no bench:begin")?;
    let (_, tail) = rest.split_once(END).context("performance.md has no bench:end")?;
    let images = docs.join("images");
    std::fs::create_dir_all(&images)?;
    let mut pictures = String::new();
    for table in results.tables.iter().filter(|table| table.rows.len() > 2) {
        let name = table.title.to_lowercase().replace(' ', "-");
        std::fs::write(images.join(format!("bench-{name}.svg")), plot(table))?;
        _ = writeln!(
            pictures,
            "![CPU time for each request: {}](images/bench-{name}.svg)\n",
            table.title
        );
    }
    std::fs::write(&file, format!("{head}{BEGIN}\n\n{pictures}{}{END}{tail}", text(results)))?;
    Ok(())
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 250.0;
const BAR: f64 = 20.0;
const STEP: f64 = 32.0;
const TOP: f64 = 44.0;

/// Bars of the CPU time for each request, with the spread as a line. It is readable on light and on dark.
fn plot(table: &Table) -> String {
    let largest = table.rows.iter().map(high).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 70.0) / largest;
    let height = TOP + STEP * table.rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{0}: CPU time for each request\">\n<style>\n\
         text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}\n\
         .title {{ font-weight: 600 }}\n.bar {{ fill: #8c959f }}\n.ours {{ fill: #0969da }}\n\
         .spread {{ stroke: #1f2328; stroke-width: 1.5 }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #e6edf3 }}\n.bar {{ fill: #6e7681 }}\n.ours {{ fill: #4493f8 }}\n\
         .spread {{ stroke: #e6edf3 }}\n}}\n</style>\n\
         <text class=\"title\" x=\"8\" y=\"22\">{0}: CPU µs for each request (less is better)</text>\n",
        table.title
    );
    for (number, row) in table.rows.iter().enumerate() {
        let y = TOP + STEP * number as f64;
        let (low, middle, high) = spread(row.rounds.iter().map(|round| round.cpu));
        let class = if row.name.starts_with("Guesthouse") { "ours" } else { "bar" };
        let middle_y = y + BAR / 2.0;
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\"/>\n\
             <line class=\"spread\" x1=\"{:.1}\" y1=\"{middle_y:.1}\" x2=\"{:.1}\" y2=\"{middle_y:.1}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{middle:.1}</text>",
            LABELS - 8.0,
            y + 15.0,
            row.name,
            middle * scale,
            LABELS + low * scale,
            LABELS + high * scale,
            LABELS + high * scale + 6.0,
            y + 15.0,
        );
    }
    svg + "</svg>\n"
}

fn high(row: &Row) -> f64 {
    spread(row.rounds.iter().map(|round| round.cpu)).2
}
