//! What is wrong with a source, for programs and for people.

use oxc::diagnostics::OxcDiagnostic;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Errors of one answer: a source that is no TypeScript at all has thousands.
const MOST: usize = 50;
/// Characters of a line in a frame.
const WIDEST: usize = 160;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// From 1.
    pub line: usize,
    /// From 1, in UTF-16 units as editors and browsers count.
    pub column: usize,
    /// UTF-16 units.
    pub length: usize,
    /// The line and a mark under the place.
    pub frame: String,
}

impl Diagnostic {
    /// At bytes of the source.
    pub(crate) fn at(
        source: &str,
        filename: &str,
        start: usize,
        length: usize,
        message: &str,
    ) -> Self {
        let start = floor(source, start);
        let end = floor(source, start.saturating_add(length)).max(start);
        let before = source.get(..start).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let indent = source.get(line_start..start).unwrap_or_default();
        let marked = source.get(start..end).unwrap_or_default();
        let units = |text: &str| text.encode_utf16().count();
        let column = units(indent) + 1;
        let name = if filename.is_empty() { "input" } else { filename };
        let text = source.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let mut frame = format!("{name}:{line}:{column}: {message}\n");
        // A line of a minified file is shown around the place.
        let at = indent.chars().count();
        let from = at.saturating_sub(WIDEST / 2);
        let shown: String = text.chars().skip(from).take(WIDEST).collect();
        let width = marked.lines().next().unwrap_or_default().chars().count();
        let width = width.clamp(1, WIDEST.saturating_sub(at - from).max(1));
        let gutter = line.to_string().len();
        _ = writeln!(frame, "{:gutter$} |", "");
        _ = writeln!(frame, "{line} | {shown}");
        _ = writeln!(frame, "{:gutter$} | {}{}", "", " ".repeat(at - from), "^".repeat(width));
        Self { message: message.to_owned(), line, column, length: units(marked), frame }
    }

    pub(crate) fn of(source: &str, filename: &str, found: &OxcDiagnostic) -> Self {
        let (start, length) = found
            .labels
            .first()
            .map_or((0, 0), |label| (label.offset() as usize, label.len() as usize));
        let message = match &found.help {
            Some(help) => format!("{}. {help}", found.message),
            None => found.message.to_string(),
        };
        Self::at(source, filename, start, length, &message)
    }
}

pub(crate) fn all(
    source: &str,
    filename: &str,
    found: impl IntoIterator<Item = OxcDiagnostic>,
) -> Vec<Diagnostic> {
    found.into_iter().take(MOST).map(|one| Diagnostic::of(source, filename, &one)).collect()
}

/// `{"errors": […]}`
#[must_use]
pub fn as_json(all: &[Diagnostic]) -> String {
    let all: Vec<Value> = all
        .iter()
        .map(|one| {
            json!({
                "message": one.message,
                "line": one.line,
                "column": one.column,
                "length": one.length,
                "frame": one.frame,
            })
        })
        .collect();
    json!({ "errors": all }).to_string()
}

/// As a terminal shows it.
#[must_use]
pub fn as_text(all: &[Diagnostic]) -> String {
    all.iter().map(|one| one.frame.as_str()).collect::<Vec<_>>().join("\n")
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
