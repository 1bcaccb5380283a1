//! A form with a file in it, taken apart as it comes.
//!
//! Owns the reading of `multipart/form-data` (RFC 7578) from pieces that end anywhere. It keeps no more than
//! a delimiter's length of a part's data, and a bound of its head: a recording of any length streams through.

/// Bytes of the head of a part.
const LONGEST_HEAD: usize = 8 << 10;

/// What a form is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part(Head),
    /// Some of its data.
    Data(Vec<u8>),
    /// It ends.
    PartEnd,
    /// The form ends.
    End,
}

/// The head of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The field.
    pub(crate) name: String,
    /// The file's name, when it is one.
    pub(crate) filename: Option<String>,
    /// The type, if it was said.
    pub(crate) content_type: Option<String>,
}

/// The form is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: a line end, or `--`.
    Delimiter,
    Head,
    Data,
    End,
}

/// Reads a form.
pub(crate) struct Form {
    /// `\r\n--boundary`
    delimiter: Vec<u8>,
    kept: Vec<u8>,
    state: State,
}

/// The boundary of a `multipart/form-data` content type.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    if !parts.next()?.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parts.find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    ((1..=70).contains(&boundary.len())).then_some(boundary)
}

impl Form {
    pub(crate) fn new(boundary: &str) -> Self {
        // The first delimiter may stand at the very beginning, where no line has ended yet.
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            kept: b"\r\n".to_vec(),
            state: State::Preamble,
        }
    }

    /// Whether the form has ended.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Takes the next bytes, and gives what they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Malformed> {
        self.kept.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            match self.state {
                State::Preamble => {
                    if self.data_until_delimiter().1 {
                        self.state = State::Delimiter;
                    } else {
                        break;
                    }
                }
                State::Delimiter => match self.kept.get(..2) {
                    Some(b"--") => {
                        events.push(Event::End);
                        self.state = State::End;
                    }
                    Some(b"\r\n") => {
                        // The line end stays: it may be the first of the two that end an empty head.
                        self.state = State::Head;
                    }
                    // White space may follow a delimiter.
                    Some([b' ' | b'\t', _]) => {
                        self.kept.drain(..1);
                    }
                    Some(_) => return Err(Malformed),
                    None => break,
                },
                State::Head => match find(&self.kept, b"\r\n\r\n") {
                    Some(end) if end <= LONGEST_HEAD => {
                        let head: Vec<u8> = self.kept.drain(..end + 4).collect();
                        events.push(Event::Part(head_of(&head)?));
                        self.state = State::Data;
                    }
                    None if self.kept.len() <= LONGEST_HEAD => break,
                    _ => return Err(Malformed),
                },
                State::Data => {
                    let (data, ended) = self.data_until_delimiter();
                    if !data.is_empty() {
                        events.push(Event::Data(data));
                    }
                    if !ended {
                        break;
                    }
                    events.push(Event::PartEnd);
                    self.state = State::Delimiter;
                }
                State::End => {
                    self.kept.clear();
                    break;
                }
            }
        }
        Ok(events)
    }

    /// What is data for sure, and whether the delimiter was behind it (it is taken off).
    fn data_until_delimiter(&mut self) -> (Vec<u8>, bool) {
        if let Some(at) = find(&self.kept, &self.delimiter) {
            let data = self.kept.drain(..at).collect();
            self.kept.drain(..self.delimiter.len());
            return (data, true);
        }
        // The end may be the beginning of a delimiter.
        let safe = self.kept.len().saturating_sub(self.delimiter.len() - 1);
        (self.kept.drain(..safe).collect(), false)
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    // Most bytes of a recording are not the first of the delimiter.
    while let Some(at) = text.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + at;
        if text.get(at..at + what.len())? == what {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn head_of(bytes: &[u8]) -> Result<Head, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    let mut head = Head::default();
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-type") {
            head.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            head.name = parameter(value, "name").ok_or(Malformed)?;
            head.filename = parameter(value, "filename");
        }
    }
    Ok(head)
}

/// A quoted parameter; browsers write `"` within as `%22`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    value.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        (name == wanted).then(|| value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORM: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nen\r\n\
        --b\r\ncontent-disposition: form-data; name=\"record.wav\"; filename=\"a b.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nRIFF\r\n--\r\n-b\r\n--b--\r\n";

    fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, Malformed> {
        let mut form = Form::new("b");
        let mut events: Vec<Event> = Vec::new();
        for piece in pieces {
            for event in form.feed(piece)? {
                match (events.last_mut(), event) {
                    (Some(Event::Data(all)), Event::Data(more)) => all.extend(more),
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    #[test]
    fn a_form_is_taken_apart() {
        let head = |name: &str, filename: Option<&str>, kind: Option<&str>| {
            Event::Part(Head {
                name: name.to_owned(),
                filename: filename.map(str::to_owned),
                content_type: kind.map(str::to_owned),
            })
        };
        assert_eq!(
            read(&[FORM]).unwrap(),
            [
                head("language", None, None),
                Event::Data(b"en".to_vec()),
                Event::PartEnd,
                head("record.wav", Some("a b.wav"), Some("audio/wav")),
                Event::Data(b"RIFF\r\n--\r\n-b".to_vec()),
                Event::PartEnd,
                Event::End,
            ]
        );
    }

    #[test]
    fn the_boundary_is_found_quoted_or_not() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(
            boundary("Multipart/Form-Data; charset=x; boundary=\"a c\"").as_deref(),
            Some("a c")
        );
        assert_eq!(boundary("application/json"), None);
        assert_eq!(boundary("multipart/form-data; boundary="), None);
    }

    #[test]
    fn what_is_no_form_is_refused_or_never_ends() {
        assert_eq!(read(&[b"--b+\r\n"]), Err(Malformed));
        assert_eq!(read(&[b"--b\r\n", &vec![b'x'; LONGEST_HEAD + 9]]), Err(Malformed));
        assert_eq!(read(&[b"--b\r\nContent-Disposition: form-data\r\n\r\n"]), Err(Malformed));
        assert_eq!(read(&[b"no form at all"]).unwrap(), []);
    }

    proptest! {
        #[test]
        fn pieces_may_end_anywhere(cuts in proptest::collection::vec(0..FORM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, FORM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).filter_map(|pair| FORM.get(*pair.first()?..*pair.last()?)).collect();
            prop_assert_eq!(read(&pieces), read(&[FORM]));
        }

        #[test]
        fn nothing_is_read_into_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            _ = read(&[b"--b\r\n", &bytes]);
        }
    }
}
