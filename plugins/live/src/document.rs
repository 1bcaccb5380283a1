//! The code of a room as a Yjs document.
//!
//! Owns the document while the room is awake: what it says, what an edit makes of it, whether an update may come in.
//! The code is the text `code` of the document and nothing else, so that every door edits the same thing. It keeps
//! nothing: what it returns as updates is what must be kept. The dangers that shaped it: an update that is small and
//! allocates much, a document that only grows, and a text that no session could hold.

use crate::changes::changes;
use crate::structs;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, Text, TextRef, Transact,
    Update,
};

/// The name of the text in the document.
pub const TEXT: &str = "code";

/// What a document may be.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes of one update.
    pub update: usize,
    /// Bytes of the code.
    pub code: usize,
}

/// Why an update was not taken.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Refused {
    /// It is malformed.
    Malformed,
    /// It is larger than an update may be.
    TooLarge,
    /// It would make the code larger than it may be. The document has it already: it must be thrown away.
    CodeTooLong,
}

/// A document.
pub struct Document {
    doc: Doc,
    text: TextRef,
}

impl Document {
    /// An empty one, in which the room edits as this client. No two instances of a room may edit as the same
    /// client unless each has all that those before it did.
    #[must_use]
    pub fn new(client: u32) -> Self {
        let options = Options {
            client_id: ClientID::new(u64::from(client)),
            offset_kind: OffsetKind::Utf16,
            ..Options::default()
        };
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text(TEXT);
        Self { doc, text }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// Units of UTF-16 of the code; cheap.
    #[must_use]
    pub fn code_length(&self) -> usize {
        self.text.len(&self.doc.transact()) as usize
    }

    /// What the document has.
    #[must_use]
    pub fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// Everything, as one update, without what was deleted.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    /// What somebody with this state vector lacks. None: it is malformed.
    #[must_use]
    pub fn missing(&self, state_vector: &[u8]) -> Option<Vec<u8>> {
        structs::clients(state_vector)?;
        let state_vector = StateVector::decode_v1(state_vector).ok()?;
        Some(self.doc.transact().encode_state_as_update_v1(&state_vector))
    }

    /// Takes what was kept.
    ///
    /// # Errors
    /// It can't be read.
    pub fn load(&mut self, update: &[u8]) -> Result<(), Refused> {
        let update = Update::decode_v1(update).map_err(|_| Refused::Malformed)?;
        self.doc.transact_mut().apply_update(update).map_err(|_| Refused::Malformed)
    }

    /// Takes an update of a client. False: it says nothing new.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn merge(&mut self, update: &[u8], caps: &Caps) -> Result<bool, Refused> {
        if update.len() > caps.update {
            return Err(Refused::TooLarge);
        }
        let decoded = Update::decode_v1(update).map_err(|_| Refused::Malformed)?;
        if decoded.is_empty() {
            return Ok(false);
        }
        let mut transaction = self.doc.transact_mut();
        let pending = transaction.store().pending_update().is_some();
        transaction.apply_update(decoded).map_err(|_| Refused::Malformed)?;
        let waits = transaction.store().pending_update().is_some();
        let changed = !transaction.insert_set().is_empty() || !transaction.delete_set().is_empty();
        let length = self.text.len(&transaction) as usize;
        drop(transaction);
        // A unit has at least one byte and at most three.
        if length > caps.code || (length * 3 > caps.code && self.code().len() > caps.code) {
            return Err(Refused::CodeTooLong);
        }
        Ok(changed || waits || pending)
    }

    /// Makes the code say this, with as few edits as can be found. The update; none: it said so before.
    pub fn edit(&mut self, code: &str) -> Option<Vec<u8>> {
        let old = self.code();
        let changes = changes(&old, code);
        if changes.is_empty() {
            return None;
        }
        let mut transaction = self.doc.transact_mut();
        let (mut bytes, mut at) = (0, 0);
        for change in changes {
            at += units(old.get(bytes..change.at).unwrap_or_default());
            let removed = units(change.removed);
            if removed > 0 {
                self.text.remove_range(&mut transaction, at, removed);
            }
            if !change.inserted.is_empty() {
                self.text.insert(&mut transaction, at, change.inserted);
            }
            at += units(change.inserted);
            bytes = change.at + change.removed.len();
        }
        Some(transaction.encode_update_v1())
    }
}

fn units(text: &str) -> u32 {
    text.chars().fold(0, |units, char| units + if char.len_utf16() == 2 { 2 } else { 1 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPS: Caps = Caps { update: 10_000, code: 1000 };

    #[test]
    fn two_edits_at_once_are_both_kept() {
        let (mut a, mut b) = (Document::new(1), Document::new(2));
        let begun = a.edit("one two three").unwrap();
        assert_eq!(b.merge(&begun, &CAPS), Ok(true));
        let (of_a, of_b) = (a.edit("one 2 three").unwrap(), b.edit("one two three four").unwrap());
        assert_eq!(a.merge(&of_b, &CAPS), Ok(true));
        assert_eq!(b.merge(&of_a, &CAPS), Ok(true));
        assert_eq!(a.code(), "one 2 three four");
        assert_eq!(b.code(), a.code());
        assert_eq!(b.merge(&of_a, &CAPS), Ok(false), "nothing new");
    }

    #[test]
    fn an_update_that_comes_too_early_is_not_lost() {
        let mut a = Document::new(1);
        let first = a.edit("one").unwrap();
        let second = a.edit("one two").unwrap();
        let mut b = Document::new(2);
        assert_eq!(b.merge(&second, &CAPS), Ok(true));
        assert_eq!(b.code(), "");
        // What waits is part of what is kept.
        let mut c = Document::new(3);
        c.load(&b.snapshot()).unwrap();
        assert_eq!(c.merge(&first, &CAPS), Ok(true));
        assert_eq!(c.code(), "one two");
    }

    #[test]
    fn caps_hold_at_their_edge() {
        let mut a = Document::new(1);
        let fits = a.edit(&"x".repeat(CAPS.code)).unwrap();
        let one_more = a.edit(&"x".repeat(CAPS.code + 1)).unwrap();
        let mut b = Document::new(2);
        assert_eq!(b.merge(&fits, &CAPS), Ok(true));
        assert_eq!(b.merge(&one_more, &CAPS), Err(Refused::CodeTooLong));
        let mut c = Document::new(3);
        assert_eq!(c.merge(&fits, &Caps { update: fits.len(), ..CAPS }), Ok(true));
        let mut c = Document::new(3);
        assert_eq!(
            c.merge(&fits, &Caps { update: fits.len() - 1, ..CAPS }),
            Err(Refused::TooLarge)
        );
        // Three bytes each.
        let wide = Document::new(4).edit(&"✓".repeat(CAPS.code / 3 + 1)).unwrap();
        assert_eq!(Document::new(5).merge(&wide, &CAPS), Err(Refused::CodeTooLong));
    }

    #[test]
    fn what_was_deleted_is_not_kept_for_ever() {
        let mut a = Document::new(1);
        for n in 0..200 {
            a.edit(&format!("{} {n}", "long ago ".repeat(20)));
            a.edit("");
        }
        assert!(a.snapshot().len() < 4000, "{}", a.snapshot().len());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut document = Document::new(1);
            _ = document.merge(&bytes, &CAPS);
            _ = document.missing(&bytes);
        }

        #[test]
        fn an_edit_makes_the_code_and_its_update_carries_it(
            texts in prop::collection::vec("[ab\n😀é]{0,40}", 1..6)
        ) {
            let (mut here, mut there) = (Document::new(1), Document::new(2));
            for text in texts {
                if let Some(update) = here.edit(&text) {
                    prop_assert_eq!(there.merge(&update, &CAPS), Ok(true));
                }
                prop_assert_eq!(&here.code(), &text);
                prop_assert_eq!(&there.code(), &text);
            }
        }
    }
}
