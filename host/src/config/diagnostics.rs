//! What is wrong with a configuration, shown where it is wrong.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes of the file; none when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong and how to mend it: one or two sentences.
    pub message: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        Self { file: file.to_owned(), text: text.to_owned(), problems }
    }

    /// The list.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match &problem.span {
                Some(span) => self.show(f, span, &problem.message)?,
                None => writeln!(f, "{}: {}", self.file.display(), problem.message)?,
            }
        }
        Ok(())
    }
}

impl ConfigErrors {
    /// File, line and column, the line itself, and a mark under what is meant.
    fn show(&self, f: &mut fmt::Formatter<'_>, span: &Range<usize>, message: &str) -> fmt::Result {
        let start = floor(&self.text, span.start);
        let end = floor(&self.text, span.end).max(start);
        let before = self.text.get(..start).unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let marked = self.text.get(start..end).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count().max(1);
        let gutter = number.to_string().len();
        writeln!(f, "{}:{number}:{column}: {message}", self.file.display())?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{number} | {line}")?;
        writeln!(f, "{:gutter$} | {}{}", "", " ".repeat(column - 1), "^".repeat(width))
    }
}

/// The nearest character boundary at or before this byte.
fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `; did you mean …?` when something known is near, else a list of what is known.
pub(super) fn suggest(unknown: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((score, known)) if score > 0.8 => format!("Did you mean `{known}`?"),
        _ => format!("Known here: {}.", known.join(", ")),
    }
}
