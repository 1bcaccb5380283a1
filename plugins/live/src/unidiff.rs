//! Patches of texts as diff-match-patch writes them.
//!
//! Owns that format: `@@ -a,b +c,d @@` with lines that begin with a blank, `-` or `+`, their text escaped as JavaScript's
//! `encodeURI` does, all numbers in UTF-16 units, because that is what a string of JavaScript is made of.
//! Clients of diff-match-patch apply such a patch wherever it seems to fit. Here it fits exactly or not at all: the
//! hashes around a patch say which text it is for, and a guess would put an edit into somebody else's line.

use crate::changes::changes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;

/// Units of unchanged text that stand around a change.
const CONTEXT: usize = 4;
/// What `encodeURI` leaves as it is; the blank is put back behind it.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b';')
    .remove(b',')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'#')
    .remove(b' ');
/// Escapes of these are left as they are by `decodeURI`.
const RESERVED: &[u8] = b";/?:@&=+$,#";

/// Why a patch can't be applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no patch.
    Malformed,
    /// It is for another text.
    DoesNotFit,
}

/// Makes the patch from one text to another; empty for equal ones.
#[must_use]
pub fn make(old: &str, new: &str) -> String {
    let changes = changes(old, new);
    let mut patch = String::new();
    // How much longer the text has become by the hunks before.
    let mut grown: isize = 0;
    // Bytes of `old` and units before them.
    let mut position = Position { text: old, bytes: 0, units: 0 };
    let mut rest = changes.as_slice();
    while let Some(first) = rest.first() {
        let start = back(old, first.at);
        // Changes whose contexts would touch share a hunk.
        let mut count = 1;
        let mut end = first.at + first.removed.len();
        while let Some(next) = rest.get(count)
            && next.at <= forth(old, forth(old, end))
        {
            end = next.at + next.removed.len();
            count += 1;
        }
        let (hunk, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        let stop = forth(old, end);
        let at = position.advance(start);
        let (mut before, mut after, mut lines) = (0, 0, String::new());
        let mut line = |sign: char, text: &str| {
            if text.is_empty() {
                return;
            }
            let units = units(text);
            if sign != '+' {
                before += units;
            }
            if sign != '-' {
                after += units;
            }
            _ = writeln!(lines, "{sign}{}", utf8_percent_encode(text, KEPT));
        };
        let mut done = start;
        for change in hunk {
            line(' ', old.get(done..change.at).unwrap_or_default());
            line('-', change.removed);
            line('+', change.inserted);
            done = change.at + change.removed.len();
        }
        line(' ', old.get(done..stop).unwrap_or_default());
        let at_new = at.saturating_add_signed(grown);
        _ = write!(patch, "@@ -{} +{} @@\n{lines}", place(at, before), place(at_new, after));
        grown += after.cast_signed() - before.cast_signed();
    }
    patch
}

fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

fn place(at: usize, length: usize) -> String {
    match length {
        0 => format!("{at},0"),
        1 => (at + 1).to_string(),
        _ => format!("{},{length}", at + 1),
    }
}

/// Counts units on the way through a text.
struct Position<'a> {
    text: &'a str,
    bytes: usize,
    units: usize,
}

impl Position<'_> {
    fn advance(&mut self, to: usize) -> usize {
        self.units += units(self.text.get(self.bytes..to).unwrap_or_default());
        self.bytes = to;
        self.units
    }
}

fn back(text: &str, from: usize) -> usize {
    let before = text.get(..from).unwrap_or_default();
    before.char_indices().rev().take(CONTEXT).last().map_or(from, |(at, _)| at)
}

fn forth(text: &str, from: usize) -> usize {
    let behind = text.get(from..).unwrap_or_default();
    behind.char_indices().nth(CONTEXT).map_or(text.len(), |(at, _)| from + at)
}

/// Applies a patch.
///
/// # Errors
/// See [`Error`]; the text is as it was.
pub fn apply(text: &str, patch: &str) -> Result<String, Error> {
    let old: Vec<u16> = text.encode_utf16().collect();
    let mut new: Vec<u16> = Vec::with_capacity(old.len());
    // How far the old text has been used up.
    let mut used = 0_usize;
    let mut lines = patch.split('\n').peekable();
    while let Some(head) = lines.next() {
        if head.is_empty() {
            continue;
        }
        let at = head_of(head).ok_or(Error::Malformed)?;
        // Where the hunk begins is said in units of the text as it has become.
        let keep = at.checked_sub(new.len()).ok_or(Error::DoesNotFit)?;
        let kept = old.get(used..used.saturating_add(keep)).ok_or(Error::DoesNotFit)?;
        new.extend_from_slice(kept);
        used += keep;
        while let Some(line) = lines.next_if(|line| !line.starts_with('@')) {
            let Some(sign) = line.chars().next() else { continue };
            let text = decode(line.get(1..).unwrap_or_default()).ok_or(Error::Malformed)?;
            let units: Vec<u16> = text.encode_utf16().collect();
            let fits = old.get(used..).is_some_and(|rest| rest.starts_with(&units));
            match sign {
                ' ' if fits => {
                    new.extend_from_slice(&units);
                    used += units.len();
                }
                '-' if fits => used += units.len(),
                '+' => new.extend_from_slice(&units),
                ' ' | '-' => return Err(Error::DoesNotFit),
                _ => return Err(Error::Malformed),
            }
        }
    }
    new.extend_from_slice(old.get(used..).unwrap_or_default());
    String::from_utf16(&new).map_err(|_| Error::Malformed)
}

/// Where a hunk begins in the new text.
fn head_of(line: &str) -> Option<usize> {
    let inner = line.strip_prefix("@@ -")?.strip_suffix(" @@")?;
    let (_, new) = inner.split_once(" +")?;
    let number = |text: &str| {
        (text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<usize>().ok())?
    };
    match new.split_once(',') {
        Some((at, "0")) => number(at),
        Some((at, length)) => number(length).and(number(at)?.checked_sub(1)),
        None => number(new)?.checked_sub(1),
    }
}

/// `decodeURI`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = behind;
            continue;
        }
        let (digits, behind) = behind.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if RESERVED.contains(&byte) {
            bytes.push(b'%');
            bytes.extend_from_slice(digits.as_bytes());
        } else {
            bytes.push(byte);
        }
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by jsondiffpatch 0.7.7 in Node.js.
    #[test]
    fn a_patch_of_the_original_library_is_applied() {
        let line = "The quick brown fox jumps over the lazy dog.\n";
        let old = format!("{line}{line}😀 end\n");
        let patch = "@@ -9,33 +9,34 @@\n k brown fox jump\n-s\n+ed\n  over the lazy d\n@@ -74,24 +74,30 @@\n ver \n-the\n\
             +a\n  lazy d\n-o\n+%C3%B6%C3%B6\n g.%0A%F0%9F%98%80\n+%F0%9F%98%80 100%25\n  end\n";
        let new = "The quick brown fox jumped over the lazy dog.\nThe quick brown fox jumps over a lazy d\u{f6}\u{f6}g.\n\
             😀😀 100% end\n";
        assert_eq!(apply(&old, patch).unwrap(), new);
        assert_eq!(apply(&old, &make(&old, new)).unwrap(), new);
    }

    #[test]
    fn a_patch_for_another_text_is_refused() {
        let patch = make("one two three four", "one 2 three four");
        assert_eq!(apply("one two three four", &patch).unwrap(), "one 2 three four");
        assert_eq!(apply("one too three four", &patch), Err(Error::DoesNotFit));
        assert_eq!(apply("one", &patch), Err(Error::DoesNotFit));
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for patch in
            ["nonsense", "@@ -1 +1", "@@ -1,1 +0,1 @@\n a", "@@ -1 +1 @@\n*a", "@@ -1 +1 @@\n %4"]
        {
            assert_eq!(apply("abc", patch), Err(Error::Malformed), "{patch}");
        }
    }

    #[test]
    fn numbers_are_in_units_of_javascript() {
        let patch = make("😀😀 abcdefgh x", "😀😀 abcdefgh yz");
        assert_eq!(patch, "@@ -11,5 +11,6 @@\n fgh \n-x\n+yz\n");
        let escaped = make("", "a%\n\"<é> #?");
        assert_eq!(escaped, "@@ -0,0 +1,10 @@\n+a%25%0A%22%3C%C3%A9%3E #?\n");
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_new_text(old in "[ab\n😀é%# ]{0,80}", new in "[ab\n😀é%# ]{0,80}") {
            let patch = make(&old, &new);
            prop_assert_eq!(apply(&old, &patch).unwrap(), new);
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}", patch in "(@@ -[0-9]{1,3}(,[0-9])? \\+[0-9]{1,3}(,[0-9])? @@\n)?([ +-][a%0-9]{0,6}\n){0,4}") {
            _ = apply(&text, &patch);
        }
    }
}
