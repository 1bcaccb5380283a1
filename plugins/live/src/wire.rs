//! Messages of the Yjs protocols: sync and awareness.
//!
//! Owns their bytes (lib0 version 1), nothing of what they mean. One WebSocket message is one protocol message; the
//! JavaScript clients ignore what comes behind it. The danger that shaped it: counts and lengths that a client has
//! made up. Nothing is allocated for them before the bytes are there.

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// What the client has: a state vector. It wants the rest.
    Step1(&'a [u8]),
    /// What the server lacks: an update.
    Step2(&'a [u8]),
    /// What has changed: an update.
    Update(&'a [u8]),
    /// Presence.
    Awareness(Vec<Presence<'a>>),
    /// The client asks who is there.
    QueryAwareness,
}

/// One client's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The client's id in Yjs.
    pub client: u64,
    /// Grows with each change.
    pub clock: u64,
    /// JSON; `null` says goodbye.
    pub state: &'a str,
}

/// Entries of one awareness message.
const ENTRIES: u64 = 4096;

/// Reads a message. None: it is malformed.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader(bytes);
    let message = match reader.number()? {
        0 => match reader.number()? {
            0 => Message::Step1(reader.buffer()?),
            1 => Message::Step2(reader.buffer()?),
            2 => Message::Update(reader.buffer()?),
            _ => return None,
        },
        1 => Message::Awareness(presences(reader.buffer()?)?),
        3 => Message::QueryAwareness,
        _ => return None,
    };
    Some(message)
}

fn presences(payload: &[u8]) -> Option<Vec<Presence<'_>>> {
    let mut reader = Reader(payload);
    let count = reader.number().filter(|count| *count <= ENTRIES)?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(Presence {
            client: reader.number()?,
            clock: reader.number()?,
            state: std::str::from_utf8(reader.buffer()?).ok()?,
        });
    }
    Some(found)
}

/// Reads what lib0 writes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    /// A number of at most 32 bits: what clocks and lengths are counted with.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// Up to 53 bits: what JavaScript counts with.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return (number < 1 << 53).then_some(number);
            }
        }
        None
    }

    pub(crate) fn buffer(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (buffer, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(buffer)
    }
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7F) as u8;
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn put_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn sync(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    out.extend([0, kind]);
    put_buffer(&mut out, bytes);
    out
}

/// "This is what I have."
#[must_use]
pub fn step1(state_vector: &[u8]) -> Vec<u8> {
    sync(0, state_vector)
}

/// "This is what you lack."
#[must_use]
pub fn step2(update: &[u8]) -> Vec<u8> {
    sync(1, update)
}

/// "This has changed."
#[must_use]
pub fn update(update: &[u8]) -> Vec<u8> {
    sync(2, update)
}

/// Presence of these.
#[must_use]
pub fn awareness(all: &[Presence<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    put_number(&mut payload, all.len() as u64);
    for one in all {
        put_number(&mut payload, one.client);
        put_number(&mut payload, one.clock);
        put_buffer(&mut payload, one.state.as_bytes());
    }
    let mut out = vec![1];
    put_buffer(&mut out, &payload);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_of_the_javascript_clients_are_read() {
        assert_eq!(read(&[0, 0, 1, 0]), Some(Message::Step1(&[0])));
        assert_eq!(read(&[0, 1, 2, 0, 0]), Some(Message::Step2(&[0, 0])));
        assert_eq!(read(&[0, 2, 2, 0, 0, 9]), Some(Message::Update(&[0, 0])));
        assert_eq!(read(&[3]), Some(Message::QueryAwareness));
        // Made by y-protocols 1.0.7: client 300, clock 1, {"a":1}.
        let bytes = [1, 12, 1, 172, 2, 1, 7, 123, 34, 97, 34, 58, 49, 125];
        let presence = Presence { client: 300, clock: 1, state: "{\"a\":1}" };
        assert_eq!(read(&bytes), Some(Message::Awareness(vec![presence.clone()])));
        assert_eq!(awareness(&[presence]), bytes);
    }

    #[test]
    fn what_a_client_made_up_is_refused() {
        for bytes in [
            &[][..],
            &[0],
            &[0, 3, 0],
            &[0, 2, 200, 1],
            &[9],
            // A length of 2^52 and nothing behind it.
            &[0, 2, 128, 128, 128, 128, 128, 128, 128, 8],
            // More entries than bytes.
            &[1, 2, 255, 31],
            &[1, 4, 1, 1, 1, 5],
            &[255; 20],
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            _ = read(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            client in 0..1_u64 << 53,
            clock in 0..1_u64 << 31,
            state in "[a-z{}é]{0,200}",
        ) {
            let written = [step1(&bytes), step2(&bytes), update(&bytes)];
            prop_assert_eq!(read(&written[0]), Some(Message::Step1(&bytes)));
            prop_assert_eq!(read(&written[1]), Some(Message::Step2(&bytes)));
            prop_assert_eq!(read(&written[2]), Some(Message::Update(&bytes)));
            let all = vec![Presence { client, clock, state: &state }];
            let written = awareness(&all);
            prop_assert_eq!(read(&written), Some(Message::Awareness(all)));
        }
    }
}
