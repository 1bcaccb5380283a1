//! What has changed between two texts.
//!
//! Owns the search for a short list of changes, with a bound on what the search may cost: two long texts that have
//! nothing in common must not keep a room busy. Beyond the bound the answer is coarser, never wrong.

use dissimilar::Chunk;
use std::collections::HashMap;

/// Bytes on each side up to which characters are compared.
const FINE: usize = 4096;
/// Lines on each side up to which lines are compared.
const LINES: usize = 4000;

/// One replaced piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Where, in bytes of the old text.
    pub at: usize,
    /// What goes.
    pub removed: &'a str,
    /// What comes.
    pub inserted: &'a str,
}

/// The changes that make `new` of `old`, in order, apart from each other.
#[must_use]
pub fn changes<'a>(old: &'a str, new: &'a str) -> Vec<Change<'a>> {
    let start = common(old.char_indices(), new.char_indices());
    let (old_rest, new_rest) = (after(old, start), after(new, start));
    let end = common_end(old_rest, new_rest);
    let (removed, inserted) = (cut_end(old_rest, end), cut_end(new_rest, end));
    if removed.is_empty() && inserted.is_empty() {
        return Vec::new();
    }
    let whole = Change { at: start, removed, inserted };
    if removed.is_empty() || inserted.is_empty() {
        return vec![whole];
    }
    let mut found = Vec::new();
    if removed.len() <= FINE && inserted.len() <= FINE {
        fine(&whole, &mut found);
    } else if !by_lines(&whole, &mut found) {
        found.push(whole);
    }
    found
}

fn after(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

fn cut_end(text: &str, end: usize) -> &str {
    text.get(..text.len().saturating_sub(end)).unwrap_or_default()
}

fn common(
    mut old: impl Iterator<Item = (usize, char)>,
    mut new: impl Iterator<Item = (usize, char)>,
) -> usize {
    let mut end = 0;
    while let (Some((at, a)), Some((_, b))) = (old.next(), new.next()) {
        if a != b {
            break;
        }
        end = at + a.len_utf8();
    }
    end
}

fn common_end(old: &str, new: &str) -> usize {
    let same = old.chars().rev().zip(new.chars().rev()).take_while(|(a, b)| a == b);
    same.map(|(a, _)| a.len_utf8()).sum()
}

/// Character by character.
fn fine<'a>(within: &Change<'a>, found: &mut Vec<Change<'a>>) {
    let (mut old, mut new) = (0, 0);
    let mut open: Option<(usize, usize)> = None;
    let close = |open: &mut Option<(usize, usize)>, old: usize, new: usize, found: &mut Vec<_>| {
        if let Some((from_old, from_new)) = open.take() {
            found.push(Change {
                at: within.at + from_old,
                removed: within.removed.get(from_old..old).unwrap_or_default(),
                inserted: within.inserted.get(from_new..new).unwrap_or_default(),
            });
        }
    };
    for chunk in dissimilar::diff(within.removed, within.inserted) {
        match chunk {
            Chunk::Equal(text) => {
                close(&mut open, old, new, found);
                old += text.len();
                new += text.len();
            }
            Chunk::Delete(text) => {
                open.get_or_insert((old, new));
                old += text.len();
            }
            Chunk::Insert(text) => {
                open.get_or_insert((old, new));
                new += text.len();
            }
        }
    }
    close(&mut open, old, new, found);
}

/// Line by line: each distinct line stands for one character, as diff-match-patch does it. What then differs is
/// compared finely where it is short. False: there are too many lines.
fn by_lines<'a>(within: &Change<'a>, found: &mut Vec<Change<'a>>) -> bool {
    let old: Vec<&str> = within.removed.split_inclusive('\n').collect();
    let new: Vec<&str> = within.inserted.split_inclusive('\n').collect();
    if old.len() > LINES || new.len() > LINES {
        return false;
    }
    let mut known: HashMap<&str, char> = HashMap::new();
    let mut stand_in = |line: &'a str| {
        let next = known.len();
        // From behind the surrogates: there is room for a million.
        *known.entry(line).or_insert_with(|| {
            u32::try_from(next).ok().and_then(|n| char::from_u32(0xE000 + n)).unwrap_or('\u{FFFD}')
        })
    };
    let old_text: String = old.iter().map(|line| stand_in(line)).collect();
    let new_text: String = new.iter().map(|line| stand_in(line)).collect();
    let starts = |lines: &[&str]| -> Vec<usize> {
        let mut at = 0;
        let mut starts = vec![0];
        for line in lines {
            at += line.len();
            starts.push(at);
        }
        starts
    };
    let (old_starts, new_starts) = (starts(&old), starts(&new));
    let at_line = |starts: &[usize], line: usize| starts.get(line).copied().unwrap_or_default();
    let (mut old_line, mut new_line) = (0, 0);
    let mut open: Option<(usize, usize)> = None;
    let mut close = |open: &mut Option<(usize, usize)>, old_line: usize, new_line: usize| {
        let Some((from_old, from_new)) = open.take() else { return };
        let old = at_line(&old_starts, from_old)..at_line(&old_starts, old_line);
        let new = at_line(&new_starts, from_new)..at_line(&new_starts, new_line);
        let change = Change {
            at: within.at + old.start,
            removed: within.removed.get(old).unwrap_or_default(),
            inserted: within.inserted.get(new).unwrap_or_default(),
        };
        if change.removed.len() <= FINE / 4 && change.inserted.len() <= FINE / 4 {
            fine(&change, found);
        } else {
            found.push(change);
        }
    };
    for chunk in dissimilar::diff(&old_text, &new_text) {
        match chunk {
            Chunk::Equal(text) => {
                close(&mut open, old_line, new_line);
                old_line += text.chars().count();
                new_line += text.chars().count();
            }
            Chunk::Delete(text) => {
                open.get_or_insert((old_line, new_line));
                old_line += text.chars().count();
            }
            Chunk::Insert(text) => {
                open.get_or_insert((old_line, new_line));
                new_line += text.chars().count();
            }
        }
    }
    close(&mut open, old_line, new_line);
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &str, changes: &[Change<'_>]) -> String {
        let (mut text, mut at) = (String::new(), 0);
        for change in changes {
            text += &old[at..change.at];
            assert_eq!(&old[change.at..change.at + change.removed.len()], change.removed);
            text += change.inserted;
            at = change.at + change.removed.len();
        }
        text + &old[at..]
    }

    #[test]
    fn what_is_equal_has_no_changes() {
        assert!(changes("same", "same").is_empty());
    }

    #[test]
    fn a_word_that_is_replaced_is_one_small_change() {
        let found = changes("let a = 1;\nlet b = 2;\n", "let a = 1;\nlet bee = 2;\n");
        assert_eq!(found, [Change { at: 16, removed: "", inserted: "ee" }]);
    }

    #[test]
    fn far_apart_changes_of_long_texts_stay_apart() {
        let lines: Vec<String> = (0..3000).map(|n| format!("line number {n}\n")).collect();
        let old = lines.concat();
        let mut other = lines;
        other[10] = "changed\n".to_owned();
        other[2900] = String::new();
        let new = other.concat();
        let found = changes(&old, &new);
        assert_eq!(apply(&old, &found), new);
        assert!(found.iter().map(|c| c.removed.len() + c.inserted.len()).sum::<usize>() < 100);
    }

    #[test]
    fn texts_without_anything_in_common_are_replaced_without_a_long_search() {
        let old: String = (0..20_000).map(|n| format!("{n}\n")).collect();
        let new: String = (0..20_000).map(|n| format!("{}x", n * 7)).collect();
        let found = changes(&old, &new);
        assert_eq!(apply(&old, &found), new);
    }

    proptest! {
        #[test]
        fn changes_make_the_new_text(old in "[ab\n😀é]{0,60}", new in "[ab\n😀é]{0,60}") {
            prop_assert_eq!(apply(&old, &changes(&old, &new)), new);
        }

        #[test]
        fn and_so_do_those_of_many_lines(
            old in prop::collection::vec("[abc]{0,40}", 0..300),
            new in prop::collection::vec("[abc]{0,40}", 0..300),
        ) {
            let (old, new) = (old.join("\n"), new.join("\n"));
            prop_assert_eq!(apply(&old, &changes(&old, &new)), new);
        }
    }
}
