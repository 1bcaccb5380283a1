//! Server-sent events as they pass.
//!
//! Owns the reassembly of events from pieces that end anywhere. It keeps one unfinished line, and no more
//! than a bound: an upstream that never ends a line costs no memory.

/// Bytes of one line that are kept.
const LONGEST: usize = 256 << 10;

/// Finds the `data` of events in a stream.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    /// The line is longer than is kept, and is left out to its end.
    skip: bool,
}

impl Events {
    /// Takes the next bytes, and calls back with each line of data that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, after) = rest.split_at(end);
            self.keep(line);
            if !self.skip
                && let Some(value) = self.line.strip_prefix(b"data:")
            {
                data(value.strip_prefix(b" ").unwrap_or(value));
            }
            self.line.clear();
            self.skip = false;
            rest = after.split_first().map_or(&[][..], |(_, after)| after);
        }
        self.keep(rest);
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > LONGEST {
            self.skip = true;
            self.line.clear();
        } else if !self.skip {
            self.line.extend_from_slice(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.feed(piece, |data| found.push(String::from_utf8_lossy(data).into_owned()));
        }
        found
    }

    #[test]
    fn data_is_found_whatever_ends_the_lines() {
        let stream = b"event: a\ndata: one\n\n: comment\r\ndata:two\r\n\r\ndata: three\r\rid: 4\n";
        assert_eq!(all(&[stream]), ["one", "two", "three"]);
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut events = Events::default();
        for _ in 0..1000 {
            events.feed(&[b'x'; 4096], |_| ());
        }
        assert!(events.line.capacity() <= 2 * LONGEST);
        let mut found = 0;
        events.feed(b"\ndata: after\n", |_| found += 1);
        assert_eq!(found, 1);
    }

    proptest! {
        #[test]
        fn pieces_may_end_anywhere(
            lines in proptest::collection::vec("data: [a-z]{0,9}|event: x|", 0..20),
            cuts in proptest::collection::vec(0usize..200, 0..10),
        ) {
            let text = lines.join("\n") + "\n";
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).filter_map(|pair| bytes.get(*pair.first()?..*pair.last()?)).collect();
            prop_assert_eq!(all(&pieces), all(&[bytes]));
        }
    }
}
