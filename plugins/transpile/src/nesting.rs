//! How deep a source is nested, before the parser looks at it.
//!
//! The parser and everything behind it call themselves once for each level, and a stack that runs out is a
//! trap, which costs the instance and tells nobody where it was. So the depth is estimated first, from the text
//! alone. An open bracket is a level; so is each operator of one expression, because `a + b + c` is a tree as
//! deep as it is long. A text that is built to deceive the estimate still uses the stack up; then the house answers
//! in the place of this plugin (`stack_overflow` in its table).

use memchr::memmem;

/// Levels that fit into the stack with room to spare; measured with the deepest construct of each kind.
const MOST: usize = 200;
/// Operators that count as one level: a binary expression needs less stack than a bracket.
const OPERATORS: usize = 8;

/// What a word means for the depth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The expression after it is one level deeper, for as much stack as a bracket takes.
    Prefix,
    /// The same for less stack; a value stands before it.
    Infix,
    /// An expression comes after it.
    Before,
    /// The bracket after it has a condition.
    Control,
    /// `if`, which is a prefix as well.
    If,
    /// A name, or a word that changes nothing.
    Other,
}

/// The last eight bytes of a word as a number.
const fn number(word: &[u8]) -> u64 {
    let (mut number, mut rest) = (0, word);
    while let [first, others @ ..] = rest {
        number = number << 8 | *first as u64;
        rest = others;
    }
    number
}

impl Word {
    /// From its last eight bytes: comparisons of numbers in place of some twenty of texts, since words are most of what
    /// is in a source. A long word that ends as another does counts for more than it is.
    fn of(number: u64, length: usize) -> Self {
        const LONG: usize = size_of::<u64>();
        macro_rules! one_of {
            ($($word:literal)+) => { $(number == const { self::number($word) })||+ };
        }
        if length > LONG {
            match length {
                10 if one_of!(b"instanceof") => Self::Prefix,
                9 if one_of!(b"satisfies") => Self::Infix,
                _ => Self::Other,
            }
        } else if one_of!(b"if") {
            Self::If
        } else if one_of!(b"in" b"of" b"do" b"new" b"else" b"void" b"await" b"yield" b"infer" b"keyof"
            b"typeof" b"delete" b"extends")
        {
            Self::Prefix
        } else if one_of!(b"as" b"is") {
            Self::Infix
        } else if one_of!(b"case" b"throw" b"return") {
            Self::Before
        } else if one_of!(b"for" b"with" b"while" b"catch" b"switch") {
            Self::Control
        } else {
            Self::Other
        }
    }
}

/// Which bytes are part of a word: a look into a table for each byte of a source in place of some comparisons.
static IN_WORD: [bool; 256] = {
    let mut all = [false; 256];
    let (mut byte, mut rest) = (0_u8, all.as_mut_slice());
    while let [first, others @ ..] = rest {
        *first = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'\\' | 0x80..);
        byte = byte.wrapping_add(1);
        rest = others;
    }
    all
};

fn is_in_word(byte: u8) -> bool {
    IN_WORD.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Where it becomes too deep; none if it does not.
#[must_use]
pub fn too_deep(source: &str) -> Option<usize> {
    let mut outer = Vec::with_capacity(MOST);
    let mut scan = Scan {
        bytes: source.as_bytes(),
        at: 0,
        outer: &mut outer,
        level: Level::default(),
        weight: 0,
        value: false,
        block: false,
        control: false,
    };
    scan.run()
}

/// What a sign costs, behind a value or before one.
fn weight_of(sign: u8, value: bool) -> usize {
    match sign {
        // An element of JSX, whose closing is counted as well.
        b'<' if !value => 6,
        // Arguments of types; a comparison is seldom in a long row.
        b'<' => 4,
        b'>' | b':' | b'!' | b'~' => 2,
        b'+' | b'-' if !value => 2,
        _ => 1,
    }
}

/// What is between two brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    /// It belongs to a template, whose text goes on behind it.
    template: bool,
    /// It is the condition of a statement, which goes on behind it.
    condition: bool,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The levels around this one. Apart from the rest, which then lies in registers.
    outer: &'a mut Vec<Level>,
    level: Level,
    /// Operators of all levels.
    weight: usize,
    /// The last token was a value: a slash divides.
    value: bool,
    /// The last token was a brace that closes: what is in the next line is another statement.
    block: bool,
    /// The last token was `if` or its like.
    control: bool,
}

impl Scan<'_> {
    fn run(&mut self) -> Option<usize> {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                b'\n' => self.line(),
                b'/' if self.peek(1) == Some(b'/') => self.skip_until(b"\n"),
                b'/' if self.peek(1) == Some(b'*') => {
                    self.at += 2;
                    self.skip_until(b"*/");
                    self.at += 2;
                }
                b'/' if !self.value => self.regex(),
                b'"' | b'\'' => self.string(byte),
                b'`' => {
                    self.at += 1;
                    self.template();
                }
                b'(' | b'[' | b'{' => self.open(false),
                b')' | b']' | b'}' => self.close(byte),
                b';' | b',' => {
                    self.forget();
                    self.step(false);
                }
                _ if is_in_word(byte) => {
                    if !self.word() {
                        continue;
                    }
                }
                // Behind a value it is one still: a slash after `a++` divides.
                b'+' | b'-' if self.peek(1) == Some(byte) => {
                    self.count(2 * weight_of(byte, self.value));
                    self.at += 1;
                    self.step(self.value);
                }
                _ => {
                    self.count(weight_of(byte, self.value));
                    self.step(false);
                }
            }
            if self.outer.len() + self.weight / OPERATORS >= MOST {
                return Some(self.at.min(self.bytes.len().saturating_sub(1)));
            }
        }
        None
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn step(&mut self, value: bool) {
        self.at += 1;
        self.now(value);
    }

    fn now(&mut self, value: bool) {
        self.value = value;
        self.block = false;
        self.control = false;
    }

    fn count(&mut self, operators: usize) {
        self.level.operators += operators;
        self.weight += operators;
    }

    /// A new expression begins.
    fn forget(&mut self) {
        self.weight -= self.level.operators;
        self.level.operators = 0;
    }

    fn open(&mut self, template: bool) {
        if self.value {
            // A call of what a call gives, an element of an element.
            self.count(2);
        }
        self.outer.push(self.level);
        self.level = Level { operators: 0, template, condition: self.control };
        self.step(false);
    }

    fn close(&mut self, byte: u8) {
        self.forget();
        // One bracket too many closes nothing.
        let closed = match self.outer.pop() {
            Some(outer) => std::mem::replace(&mut self.level, outer),
            None => Level::default(),
        };
        self.step(byte != b'}' && !closed.condition);
        self.block = byte == b'}';
        if closed.template {
            self.template();
        }
    }

    /// A line that ends after a value, and is not continued by the next one, ends its expression: who writes
    /// without semicolons is not to be taken for who writes one endless expression.
    fn line(&mut self) {
        while self.peek(0).is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        let goes_on = match self.peek(0) {
            Some(b'/') => matches!(self.peek(1), Some(b'/' | b'*')),
            Some(next) => {
                b"+-*%&|^?:=<>.([`".contains(&next)
                    || self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"else"))
            }
            None => true,
        };
        if (self.value || self.block) && !goes_on {
            self.forget();
        }
    }

    /// Whether this can have made it deeper.
    fn word(&mut self) -> bool {
        let (start, mut number) = (self.at, 0_u64);
        while let Some(byte) = self.peek(0).filter(|byte| is_in_word(*byte)) {
            number = number << 8 | u64::from(byte);
            self.at += 1;
        }
        let word = Word::of(number, self.at - start);
        match word {
            Word::Prefix | Word::If => self.count(OPERATORS),
            Word::Infix => self.count(2),
            Word::Before | Word::Control | Word::Other => {}
        }
        self.now(!matches!(word, Word::Prefix | Word::If | Word::Before));
        self.control = matches!(word, Word::Control | Word::If);
        word != Word::Other
    }

    fn skip_until(&mut self, end: &[u8]) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += memmem::find(rest, end).unwrap_or(rest.len());
    }

    /// To the quote or, for an apostrophe in a text of JSX, to the end of the line.
    fn string(&mut self, quote: u8) {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\n' => break,
                b'\\' => self.at += 2,
                _ if byte == quote => {
                    self.at += 1;
                    break;
                }
                _ => self.at += 1,
            }
        }
        self.now(true);
    }

    /// To its end, or to that of the line. Its groups, and the classes in classes that it has with the flag `v`, are
    /// read by calls of their own: what is too deep counts as a level too many.
    fn regex(&mut self) {
        self.at += 1;
        let (mut depth, mut most) = (0_usize, 0_usize);
        let mut class = false;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\n' => break,
                b'\\' => self.at += 1,
                b'/' if !class => {
                    self.at += 1;
                    break;
                }
                b'(' | b'[' => {
                    class |= byte == b'[';
                    depth += 1;
                }
                b')' | b']' => {
                    class &= byte != b']';
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
            most = most.max(depth);
            self.at += 1;
        }
        self.now(true);
        if most > MOST / 2 {
            self.count(MOST * OPERATORS * 2);
        }
    }

    /// The text of a template, up to its end or to an expression in it.
    fn template(&mut self) {
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' => self.at += 2,
                b'`' => {
                    self.step(true);
                    return;
                }
                b'$' if self.peek(1) == Some(b'{') => {
                    self.at += 1;
                    self.open(true);
                    return;
                }
                _ => self.at += 1,
            }
        }
    }
}
