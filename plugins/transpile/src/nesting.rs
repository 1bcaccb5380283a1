//! How deep a source is nested, before the parser looks at it.
//!
//! The parser and everything behind it call themselves once for each level, and a stack that runs out is a
//! trap, which a caller would see as an error of the house. So the depth is estimated first, from the text
//! alone. An open bracket is a level; so is each operator of one expression, because `a + b + c` is a tree as
//! deep as it is long. A text without spaces that is built to deceive the estimate still traps, and hurts
//! nobody but who sent it.

/// Levels that fit into the stack with room to spare; measured with the deepest construct of each kind.
const MOST: usize = 200;
/// Operators that count as one level: a binary expression needs less stack than a bracket.
const OPERATORS: usize = 8;

/// Words that make the expression after them one level deeper.
const PREFIXES: [&str; 15] = [
    "await",
    "delete",
    "do",
    "else",
    "extends",
    "if",
    "in",
    "infer",
    "instanceof",
    "keyof",
    "new",
    "of",
    "typeof",
    "void",
    "yield",
];

/// Where it becomes too deep; none if it does not.
#[must_use]
pub fn too_deep(source: &str) -> Option<usize> {
    let mut scan = Scan {
        bytes: source.as_bytes(),
        at: 0,
        levels: vec![Level::default()],
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
#[derive(Default)]
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
    levels: Vec<Level>,
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
                b' ' | b'\t' | b'\r' => self.at += 1,
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
                b'_' | b'$' | b'\\' | 0x80.. => self.word(),
                _ if byte.is_ascii_alphanumeric() => self.word(),
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
            if self.levels.len() + self.weight / OPERATORS > MOST {
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
        if let Some(level) = self.levels.last_mut() {
            level.operators += operators;
            self.weight += operators;
        }
    }

    /// A new expression begins.
    fn forget(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            self.weight -= level.operators;
            level.operators = 0;
        }
    }

    fn open(&mut self, template: bool) {
        if self.value {
            // A call of what a call gives, an element of an element.
            self.count(2);
        }
        self.levels.push(Level { operators: 0, template, condition: self.control });
        self.step(false);
    }

    fn close(&mut self, byte: u8) {
        self.forget();
        let level = if self.levels.len() > 1 { self.levels.pop() } else { None };
        let condition = level.as_ref().is_some_and(|level| level.condition);
        self.step(byte != b'}' && !condition);
        self.block = byte == b'}';
        if level.is_some_and(|level| level.template) {
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

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'\\' | 0x80..)
        }) {
            self.at += 1;
        }
        let word = self.bytes.get(start..self.at).unwrap_or_default();
        let is_prefix = PREFIXES.iter().any(|prefix| prefix.as_bytes() == word);
        if matches!(word, b"as" | b"satisfies" | b"is") {
            self.count(2);
        }
        if is_prefix {
            // These take as much stack as a bracket.
            self.count(OPERATORS);
        }
        let goes_on = is_prefix || matches!(word, b"return" | b"case" | b"throw");
        self.now(!goes_on);
        self.control = matches!(word, b"if" | b"while" | b"for" | b"with" | b"switch" | b"catch");
    }

    fn skip_until(&mut self, end: &[u8]) {
        while self.at < self.bytes.len()
            && !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(end))
        {
            self.at += 1;
        }
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
