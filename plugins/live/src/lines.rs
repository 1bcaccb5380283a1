//! Edits that agents make: by line, and by search.
//!
//! Owns `edit_code`, `search_and_replace` and `find_lines` as functions of a text. A pattern comes from outside, so
//! the engine is one whose time grows with the text alone.

use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

/// Bytes of a compiled pattern.
const PATTERN: usize = 1 << 20;
/// Matches that are listed.
const LISTED: usize = 1000;
/// Unchanged lines around an edit in what is told of it.
const CONTEXT: usize = 2;

/// Lines that are replaced: from `start` to `end`, both counted from 1 and included.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// The first line.
    pub start_line: usize,
    /// The last line.
    pub end_line: usize,
    /// What stands there then; empty: nothing.
    pub new_content: String,
}

/// What came of an edit.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// What has changed, with some lines around it.
    pub diff: String,
    /// Lines that went or came.
    pub lines_changed: usize,
}

/// Replaces lines.
///
/// # Errors
/// A sentence that says which edit makes no sense.
pub fn edit(text: &str, edits: &[Edit]) -> Result<Edited, String> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.start_line);
    if edits.is_empty() {
        return Err("`edits` must have at least one edit".to_owned());
    }
    let mut last = 0;
    for edit in &edits {
        let (from, to) = (edit.start_line, edit.end_line);
        if from == 0 || to < from || to > lines.len() {
            return Err(format!(
                "lines {from} to {to} are not in the code: it has the lines 1 to {}",
                lines.len()
            ));
        }
        if from <= last {
            return Err(format!("two edits are about line {from}"));
        }
        last = to;
    }
    let (mut out, mut diff, mut changed) = (Vec::new(), Vec::new(), 0);
    let mut at = 0;
    for edit in edits {
        let (from, to) = (edit.start_line - 1, edit.end_line);
        let kept = lines.get(at..from).unwrap_or_default();
        let removed = lines.get(from..to).unwrap_or_default();
        let added: Vec<&str> = match edit.new_content.as_str() {
            "" => Vec::new(),
            content => content.split('\n').collect(),
        };
        diff.push(format!(
            "@@ -{},{} +{},{} @@",
            from + 1,
            removed.len(),
            out.len() + kept.len() + 1,
            added.len()
        ));
        let before = kept.get(kept.len().saturating_sub(CONTEXT)..).unwrap_or_default();
        diff.extend(before.iter().map(|line| format!(" {line}")));
        diff.extend(removed.iter().map(|line| format!("-{line}")));
        diff.extend(added.iter().map(|line| format!("+{line}")));
        let behind = lines.get(to..(to + CONTEXT).min(lines.len())).unwrap_or_default();
        diff.extend(behind.iter().map(|line| format!(" {line}")));
        changed += removed.len().max(added.len());
        out.extend_from_slice(kept);
        out.extend(added);
        at = to;
    }
    out.extend_from_slice(lines.get(at..).unwrap_or_default());
    Ok(Edited { text: out.join("\n"), diff: diff.join("\n"), lines_changed: changed })
}

fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    if pattern.is_empty() {
        return Err("what is searched for must not be empty".to_owned());
    }
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .multi_line(true)
        .size_limit(PATTERN)
        .dfa_size_limit(PATTERN)
        .build()
        .map_err(|error| format!("the pattern can't be used: {error}"))
}

/// Replaces what is found: all of it, or the first. The text and the number of replacements. With a pattern,
/// `replace` may have `$1`.
///
/// # Errors
/// A sentence about the pattern, or about a result over `most` bytes.
pub fn replace(
    text: &str,
    search: &str,
    replace: &str,
    is_regex: bool,
    all: bool,
    most: usize,
) -> Result<(String, usize), String> {
    let pattern =
        if is_regex { compile(search, false)? } else { compile(&regex::escape(search), false)? };
    let (mut out, mut at, mut count) = (String::new(), 0, 0);
    for found in pattern.captures_iter(text).take(if all { usize::MAX } else { 1 }) {
        let Some(whole) = found.get(0) else { continue };
        out += text.get(at..whole.start()).unwrap_or_default();
        if is_regex {
            found.expand(replace, &mut out);
        } else {
            out += replace;
        }
        // Looked at on the way: an empty match at each place makes much of little.
        if out.len() > most {
            return Err(format!("the code would be larger than {most} bytes"));
        }
        at = whole.end();
        count += 1;
    }
    out += text.get(at..).unwrap_or_default();
    Ok((out, count))
}

/// Lines in which something is found: a text as it is, or a pattern whatever its case.
///
/// # Errors
/// A sentence about the pattern.
pub fn find(text: &str, pattern: &str, is_regex: bool) -> Result<Value, String> {
    let pattern =
        if is_regex { compile(pattern, true)? } else { compile(&regex::escape(pattern), false)? };
    let (mut matches, mut total) = (Vec::new(), 0);
    for (number, line) in text.split('\n').enumerate() {
        if let Some(found) = pattern.find(line) {
            total += 1;
            if matches.len() < LISTED {
                matches.push(json!({
                    "lineNumber": number + 1, "content": line, "matchText": found.as_str(),
                }));
            }
        }
    }
    Ok(json!({ "matches": matches, "totalMatches": total }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(start_line: usize, end_line: usize, new_content: &str) -> Edit {
        Edit { start_line, end_line, new_content: new_content.to_owned() }
    }

    #[test]
    fn lines_are_replaced_and_deleted_and_told_of() {
        let text = "one\ntwo\nthree\nfour\nfive\nsix";
        let edited = edit(text, &[line(6, 6, "6"), line(2, 3, "")]).unwrap();
        assert_eq!(edited.text, "one\nfour\nfive\n6");
        assert_eq!(edited.lines_changed, 3);
        assert_eq!(
            edited.diff,
            "@@ -2,2 +2,0 @@\n one\n-two\n-three\n four\n five\n@@ -6,1 +4,1 @@\n four\n five\n-six\n+6"
        );
    }

    #[test]
    fn edits_that_make_no_sense_are_refused() {
        for edits in [
            vec![],
            vec![line(0, 1, "")],
            vec![line(2, 1, "")],
            vec![line(1, 4, "")],
            vec![line(1, 2, ""), line(2, 3, "")],
        ] {
            assert!(edit("a\nb\nc", &edits).is_err(), "{edits:?}");
        }
    }

    #[test]
    fn what_is_found_is_replaced() {
        let most = 1000;
        assert_eq!(replace("a.a.a", ".", "-", false, true, most).unwrap(), ("a-a-a".to_owned(), 2));
        assert_eq!(
            replace("a.a.a", ".", "$0", false, false, most).unwrap(),
            ("a$0a.a".to_owned(), 1)
        );
        let swapped = replace("ab ab", "(a)(b)", "$2$1", true, true, most).unwrap();
        assert_eq!(swapped, ("ba ba".to_owned(), 2));
        assert_eq!(replace("a", "x", "y", false, true, most).unwrap().1, 0);
        assert!(replace("a", "(", "y", true, true, most).is_err());
        assert!(replace("a", "", "y", false, true, most).is_err());
        assert!(replace(&"a".repeat(10), "a", &"x".repeat(200), true, true, most).is_err());
    }

    #[test]
    fn lines_are_found() {
        let found = find("Let x\nlet y\nz", "let", true).unwrap();
        assert_eq!(found["totalMatches"], 2);
        assert_eq!(
            found["matches"][0],
            json!({"lineNumber": 1, "content": "Let x", "matchText": "Let"})
        );
        assert_eq!(find("Let x\nlet y\nz", "let", false).unwrap()["totalMatches"], 1);
        assert_eq!(find("a+b", "a+", false).unwrap()["totalMatches"], 1);
    }

    proptest! {
        #[test]
        fn a_line_that_is_edited_is_that_line(lines in prop::collection::vec("[a-z]{0,5}", 1..20), at in 0..20_usize, new in "[a-z]{1,5}") {
            let at = at % lines.len();
            let edited = edit(&lines.join("\n"), &[line(at + 1, at + 1, &new)]).unwrap();
            let mut wanted = lines;
            wanted[at] = new;
            prop_assert_eq!(edited.text, wanted.join("\n"));
        }
    }
}
