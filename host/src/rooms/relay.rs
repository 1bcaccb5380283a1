//! Messages that the host relays by itself, connection by connection.
//!
//! Owns the question whether a message is such a one. A rule knows no protocol: it is a row of literal bytes and of
//! numbers that may be any. The danger that shaped it: what is relayed no room has looked at, so a rule must be able
//! to say what this one connection may say of itself, and nothing of others.

/// A piece of a beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Just these bytes.
    Literal(Vec<u8>),
    /// A number of any size, seven bits to a byte, lowest first (LEB128): at most nine bytes.
    Number,
}

/// What is done with the messages of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Messages that begin so are relayed.
    pub relayed: Vec<Piece>,
    /// And not longer than this.
    pub most: usize,
    /// Of the others, those that begin so are dropped.
    pub dropped: Vec<u8>,
    /// Who gets what is relayed: connections with any of these tags; empty: all.
    pub tags: Vec<String>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The host relays it.
    Relayed,
    /// Nobody hears it.
    Dropped,
    /// The room is asked.
    Delivered,
}

/// Pieces of a rule.
const PIECES: usize = 8;
/// Bytes of all its literals.
const BYTES: usize = 64;
/// Bytes of a number.
const NUMBER: usize = 9;

impl Rule {
    /// Whether it is small enough to be looked at for each message.
    #[must_use]
    pub fn is_small(&self) -> bool {
        let literals = self.relayed.iter().map(|piece| match piece {
            Piece::Literal(bytes) => bytes.len(),
            Piece::Number => 0,
        });
        !self.relayed.is_empty()
            && self.relayed.len() <= PIECES
            && literals.sum::<usize>() + self.dropped.len() <= BYTES
            && self.tags.len() <= 10
    }

    /// What becomes of a message.
    #[must_use]
    pub fn fate(&self, message: &[u8]) -> Fate {
        if message.len() <= self.most && begins(message, &self.relayed) {
            Fate::Relayed
        } else if !self.dropped.is_empty() && message.starts_with(&self.dropped) {
            Fate::Dropped
        } else {
            Fate::Delivered
        }
    }
}

fn begins(message: &[u8], pieces: &[Piece]) -> bool {
    let mut rest = message;
    for piece in pieces {
        rest = match piece {
            Piece::Literal(bytes) => match rest.strip_prefix(bytes.as_slice()) {
                Some(rest) => rest,
                None => return false,
            },
            Piece::Number => {
                let last = rest.iter().take(NUMBER).position(|byte| byte & 0x80 == 0);
                match last.and_then(|last| rest.get(last + 1..)) {
                    Some(rest) => rest,
                    None => return false,
                }
            }
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a room of Yjs would set it for client 300: one presence, and it is this client's.
    fn presence() -> Rule {
        Rule {
            relayed: vec![Piece::Literal(vec![1]), Piece::Number, Piece::Literal(vec![1, 172, 2])],
            most: 100,
            dropped: vec![1],
            tags: vec!["yjs".to_owned()],
        }
    }

    #[test]
    fn what_a_connection_says_of_itself_is_relayed_and_what_it_says_of_others_dropped() {
        let rule = presence();
        assert!(rule.is_small());
        assert_eq!(rule.fate(&[1, 12, 1, 172, 2, 1, 2, 123, 125]), Fate::Relayed);
        // A length of two bytes.
        assert_eq!(rule.fate(&[1, 172, 2, 1, 172, 2, 1]), Fate::Relayed);
        assert_eq!(rule.fate(&[1, 12, 1, 172, 3, 1]), Fate::Dropped);
        assert_eq!(rule.fate(&[1, 12, 2, 172, 2, 1]), Fate::Dropped);
        assert_eq!(rule.fate(&[1]), Fate::Dropped);
        assert_eq!(rule.fate(&[0, 2, 1]), Fate::Delivered);
        assert_eq!(rule.fate(&[]), Fate::Delivered);
        let longest = [&[1, 12, 1, 172, 2][..], &[0; 95]].concat();
        assert_eq!(rule.fate(&longest), Fate::Relayed);
        assert_eq!(rule.fate(&[&longest[..], &[0]].concat()), Fate::Dropped);
    }

    #[test]
    fn a_number_without_an_end_is_none() {
        let rule = Rule { relayed: vec![Piece::Number], most: 100, ..Rule::default() };
        assert_eq!(rule.fate(&[0x80; 8]), Fate::Delivered);
        assert_eq!(rule.fate(&[&[0x80; 8][..], &[1]].concat()), Fate::Relayed);
        assert_eq!(rule.fate(&[&[0x80; 9][..], &[1]].concat()), Fate::Delivered);
    }

    #[test]
    fn a_rule_is_small_or_none() {
        let literal = |count: usize| Piece::Literal(vec![0; count]);
        let rule = |relayed: Vec<Piece>| Rule { relayed, most: 1, ..Rule::default() };
        assert!(rule(vec![literal(64)]).is_small() && !rule(vec![literal(65)]).is_small());
        assert!(
            rule(vec![Piece::Number; 8]).is_small() && !rule(vec![Piece::Number; 9]).is_small()
        );
        assert!(!rule(Vec::new()).is_small());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..40)) {
            _ = presence().fate(&message);
            _ = Rule { relayed: vec![Piece::Number; 8], most: 40, ..Rule::default() }.fate(&message);
        }
    }
}
