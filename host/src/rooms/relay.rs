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

    /// A number, seven bits to a byte, lowest first.
    fn encoded(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(number & 0x7f).unwrap_or(0);
            number >>= 7;
            if number == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }

    /// Pieces, and a message that begins with them. A number of nine bytes has at most 63 bits.
    fn beginnings() -> impl Strategy<Value = (Vec<Piece>, Vec<u8>)> {
        let literal = prop::collection::vec(any::<u8>(), 1..6);
        let piece = prop_oneof![
            literal.prop_map(|bytes| (Piece::Literal(bytes.clone()), bytes)),
            (0..1_u64 << 63).prop_map(|number| (Piece::Number, encoded(number))),
        ];
        prop::collection::vec(piece, 1..=PIECES).prop_map(|pieces| {
            let message = pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            (pieces.into_iter().map(|(piece, _)| piece).collect(), message)
        })
    }

    proptest! {
        #[test]
        fn what_begins_with_the_pieces_is_relayed_up_to_its_length_and_nothing_shorter_is(
            (relayed, begin) in beginnings(),
            tail in prop::collection::vec(any::<u8>(), 0..20),
            dropped in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let message = [begin.as_slice(), &tail].concat();
            let rule = |most: usize| {
                Rule { relayed: relayed.clone(), most, dropped: dropped.clone(), tags: Vec::new() }
            };
            prop_assert_eq!(rule(message.len()).fate(&message), Fate::Relayed);
            let otherwise = |message: &[u8]| {
                let drops = !dropped.is_empty() && message.starts_with(&dropped);
                if drops { Fate::Dropped } else { Fate::Delivered }
            };
            prop_assert_eq!(rule(message.len() - 1).fate(&message), otherwise(&message));
            // A beginning of the beginning is none: its last piece is not whole.
            let cut = begin.get(..begin.len() - 1).unwrap_or_default();
            prop_assert_eq!(rule(100).fate(cut), otherwise(cut));
        }

        #[test]
        fn a_message_with_another_first_byte_than_the_literal_is_not_relayed(
            (mut relayed, begin) in beginnings(), byte: u8, other: u8,
        ) {
            prop_assume!(byte != other);
            relayed.insert(0, Piece::Literal(vec![byte]));
            let rule = Rule { relayed, most: 1000, ..Rule::default() };
            prop_assert_eq!(rule.fate(&[&[byte], begin.as_slice()].concat()), Fate::Relayed);
            prop_assert_eq!(rule.fate(&[&[other], begin.as_slice()].concat()), Fate::Delivered);
        }

        #[test]
        fn nothing_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..40)) {
            _ = presence().fate(&message);
            _ = Rule { relayed: vec![Piece::Number; 8], most: 40, ..Rule::default() }.fate(&message);
        }
    }
}
