//! Where a request ends, and where its fields lie: a JSON scanner that takes text in pieces cut
//! anywhere, looks at each byte once, and says at once when the text can no longer be a request.
//!
//! It only finds spans; [`request`](super::request) reads what stands in them.

use super::fault::Fault;
use super::fields::{Field, FieldSpans, Span, Utf8};
use crate::limits;

/// While a request that crossed a limit is passed over, its nesting is still followed, this deep.
const SKIP_DEPTH_LEVELS: usize = 64 * 1024;

/// What [`Scanner::scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// The text so far may become a request.
    More,
    /// A request ends after this many bytes.
    Done(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the request's `{`.
    Request,
    /// After `{`.
    FirstKey,
    /// After a comma in an object.
    Key,
    /// After a key.
    Colon,
    /// Before a value.
    Value,
    /// After `[`.
    FirstItem,
    /// After a value.
    Comma,
    /// In a string, plain so far.
    Text,
    /// In a string, after a backslash.
    Escape,
    /// In a string, with so many hexadecimal digits to come.
    Hex(u8),
    /// In a string, inside a character of several bytes.
    Wide(Utf8),
    Number(Number),
    /// In `true`, `false` or `null`, with this to come.
    Literal(&'static [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// The state of one connection's scan. See the module.
#[derive(Debug)]
pub struct Scanner {
    max_message: usize,
    state: State,
    /// One bit for each open container, 1 for an object.
    kinds: Vec<u64>,
    depth: usize,
    /// Bytes of the request that were scanned.
    at: usize,
    fields: FieldSpans,
    /// The field whose value is being scanned, and where the value starts.
    field: Option<Field>,
    value_start: usize,
    key_start: usize,
    in_key: bool,
    /// Bytes of the message fields that were scanned to their end.
    messages: usize,
    skipping: bool,
}

impl Scanner {
    pub fn new(max_message: usize) -> Scanner {
        Scanner {
            max_message,
            state: State::Request,
            kinds: Vec::new(),
            depth: 0,
            at: 0,
            fields: FieldSpans::default(),
            field: None,
            value_start: 0,
            key_start: 0,
            in_key: false,
            messages: 0,
            skipping: false,
        }
    }

    /// The fields that were found so far.
    pub fn fields(&self) -> &FieldSpans {
        &self.fields
    }

    /// Whether nothing of a request has been seen.
    pub fn is_idle(&self) -> bool {
        self.state == State::Request
    }

    /// Whether the request was refused and is passed over.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Gets ready for the next request.
    pub fn reset(&mut self) {
        self.state = State::Request;
        self.depth = 0;
        self.at = 0;
        self.fields.clear();
        self.field = None;
        self.value_start = 0;
        self.in_key = false;
        self.messages = 0;
        self.skipping = false;
    }

    /// Passes over the rest of a request that crossed a limit, and returns how much of it was
    /// scanned. From there on each piece of text is given once, and forgotten.
    pub fn skip(&mut self) -> usize {
        self.skipping = true;
        std::mem::take(&mut self.at)
    }

    /// Goes on after what was scanned before. `text` begins at the request's `{`, which must have
    /// been reached, and holds all that has arrived of it; or, while skipping, the next piece.
    pub fn scan(&mut self, text: &[u8]) -> Result<Scan, Fault> {
        while let Some(&byte) = text.get(self.at) {
            self.step(byte, text)?;
            if self.depth == 0 && self.state == State::Comma {
                return Ok(Scan::Done(self.at));
            }
        }
        if self.skipping {
            self.at = 0;
            return Ok(Scan::More);
        }
        self.check_limits(text)?;
        Ok(Scan::More)
    }

    /// Whether what was scanned can still become a request within the limits.
    fn check_limits(&self, text: &[u8]) -> Result<(), Fault> {
        let in_value = if self.value_start > 0 { self.at - self.value_start } else { 0 };
        let most = match self.field {
            Some(Field::Message) => Some(self.max_message),
            Some(Field::Tag) => Some(limits::TAG_BYTES),
            // As an escape, a character has up to six times its bytes; a list is of many names.
            Some(Field::Topic) if text.get(self.value_start) == Some(&b'"') => {
                Some(6 * limits::TOPIC_BYTES + 2)
            }
            Some(Field::Dedupe) => Some(6 * limits::DEDUPE_BYTES + 2),
            _ => None,
        };
        if let (Some(field), Some(most)) = (self.field, most)
            && in_value > most
        {
            return Err(Fault::FieldTooLarge(field));
        }
        let message_bytes = if self.field == Some(Field::Message) { in_value } else { 0 };
        // One that is given again and again may not hide that the request is too large.
        if self.messages + message_bytes > self.max_message {
            return Err(Fault::FieldTooLarge(Field::Message));
        }
        if self.at - message_bytes - self.messages > limits::REQUEST_OVERHEAD_BYTES {
            return Err(Fault::RequestTooLarge);
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, text: &[u8]) -> Result<(), Fault> {
        match self.state {
            State::Text => self.text(text),
            State::Escape => self.escape(byte),
            State::Hex(left) => self.hex(byte, left),
            State::Wide(utf8) => self.wide(byte, utf8),
            State::Number(number) => self.number(byte, number),
            State::Literal(rest) => self.literal(byte, rest),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {
                self.at += 1;
                Ok(())
            }
            State::Request => self.begin(byte),
            State::FirstKey if byte == b'}' => self.close(byte),
            State::FirstKey | State::Key => self.key(byte),
            State::Colon => self.colon(byte),
            State::FirstItem if byte == b']' => self.close(byte),
            State::FirstItem | State::Value => self.value(byte),
            State::Comma => self.comma(byte),
        }
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault::NotJson { at: self.at, expected })
    }

    fn enter(&mut self, state: State) -> Result<(), Fault> {
        self.state = state;
        self.at += 1;
        Ok(())
    }

    fn begin(&mut self, byte: u8) -> Result<(), Fault> {
        if byte != b'{' {
            return self.expected("a request, which begins with '{'");
        }
        self.open(byte)
    }

    fn open(&mut self, byte: u8) -> Result<(), Fault> {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if self.depth > limits::DEPTH_LEVELS && !self.skipping {
            return Err(Fault::TooDeep);
        }
        if self.depth >= SKIP_DEPTH_LEVELS {
            return self.expected("an end of the nesting, which is too deep to follow");
        }
        if word == self.kinds.len() {
            self.kinds.push(0);
        }
        let Some(kinds) = self.kinds.get_mut(word) else {
            return self.expected("a value");
        };
        let object = byte == b'{';
        *kinds = if object { *kinds | bit } else { *kinds & !bit };
        self.depth += 1;
        self.enter(if object { State::FirstKey } else { State::FirstItem })
    }

    fn in_object(&self) -> bool {
        let Some(level) = self.depth.checked_sub(1) else { return false };
        self.kinds.get(level / 64).is_some_and(|kinds| kinds & (1 << (level % 64)) != 0)
    }

    fn close(&mut self, byte: u8) -> Result<(), Fault> {
        if self.in_object() != (byte == b'}') {
            return self.expected("the bracket that closes what is open");
        }
        self.depth -= 1;
        self.at += 1;
        self.end_value();
        Ok(())
    }

    fn key(&mut self, byte: u8) -> Result<(), Fault> {
        if byte != b'"' {
            return self.expected("a field's name in double quotes");
        }
        self.in_key = true;
        self.key_start = self.at + 1;
        self.enter(State::Text)
    }

    fn colon(&mut self, byte: u8) -> Result<(), Fault> {
        if byte != b':' {
            return self.expected("':'");
        }
        self.enter(State::Value)
    }

    fn comma(&mut self, byte: u8) -> Result<(), Fault> {
        match byte {
            b',' if self.in_object() => self.enter(State::Key),
            b',' => self.enter(State::Value),
            b'}' | b']' => self.close(byte),
            _ => self.expected("',' or a closing bracket"),
        }
    }

    fn value(&mut self, byte: u8) -> Result<(), Fault> {
        if self.depth == 1 {
            self.value_start = self.at;
        }
        match byte {
            b'"' => self.enter(State::Text),
            b'{' | b'[' => self.open(byte),
            b'-' => self.enter(State::Number(Number::Minus)),
            b'0' => self.enter(State::Number(Number::Zero)),
            b'1'..=b'9' => self.enter(State::Number(Number::Integer)),
            b't' => self.enter(State::Literal(b"rue")),
            b'f' => self.enter(State::Literal(b"alse")),
            b'n' => self.enter(State::Literal(b"ull")),
            _ => self.expected("a value"),
        }
    }

    /// After the last byte of a value: `at` stands behind it.
    fn end_value(&mut self) {
        self.state = State::Comma;
        // While the request is passed over, positions mean nothing.
        if self.depth == 1 && !self.skipping {
            if let Some(field) = self.field.take() {
                if field == Field::Message {
                    self.messages += self.at - self.value_start;
                }
                self.fields.set(field, Span { start: self.value_start, end: self.at });
            }
            self.value_start = 0;
        }
    }

    fn literal(&mut self, byte: u8, rest: &'static [u8]) -> Result<(), Fault> {
        match rest.split_first() {
            Some((first, [])) if *first == byte => {
                self.at += 1;
                self.end_value();
                Ok(())
            }
            Some((first, rest)) if *first == byte => self.enter(State::Literal(rest)),
            _ => self.expected("true, false or null"),
        }
    }

    fn number(&mut self, byte: u8, number: Number) -> Result<(), Fault> {
        use Number::{
            Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero,
        };
        let next = match (number, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
            (Zero | Integer | Fraction | ExponentDigits, _) => {
                // The number ended before this byte, which is looked at again.
                self.end_value();
                return Ok(());
            }
            _ => return self.expected("a digit"),
        };
        self.enter(State::Number(next))
    }

    /// Takes the plain part of a string, and the byte behind it.
    fn text(&mut self, text: &[u8]) -> Result<(), Fault> {
        let rest = text.get(self.at..).unwrap_or_default();
        self.at += super::fields::plain_len(rest);
        let Some(&byte) = text.get(self.at) else { return Ok(()) };
        match byte {
            b'"' => {
                self.at += 1;
                self.end_string(text);
                Ok(())
            }
            b'\\' => self.enter(State::Escape),
            0x00..=0x1F => self.expected("no bare control character in a string: escape it"),
            _ => match Utf8::first(byte) {
                Some(utf8) => self.enter(State::Wide(utf8)),
                None => Err(Fault::NotUtf8 { at: self.at }),
            },
        }
    }

    fn end_string(&mut self, text: &[u8]) {
        if !self.in_key {
            self.end_value();
            return;
        }
        self.in_key = false;
        self.state = State::Colon;
        if self.depth == 1 && !self.skipping {
            let key = text.get(self.key_start..self.at - 1).unwrap_or_default();
            self.field = if key.contains(&b'\\') {
                super::fields::unescape(key).and_then(|key| Field::from_name(key.as_bytes()))
            } else {
                Field::from_name(key)
            };
        }
    }

    fn escape(&mut self, byte: u8) -> Result<(), Fault> {
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.enter(State::Text),
            b'u' => self.enter(State::Hex(4)),
            _ => self.expected(r#"one of "\/bfnrtu after a backslash"#),
        }
    }

    fn hex(&mut self, byte: u8, left: u8) -> Result<(), Fault> {
        if !byte.is_ascii_hexdigit() {
            return self.expected(r"four hexadecimal digits after \u");
        }
        self.enter(if left == 1 { State::Text } else { State::Hex(left - 1) })
    }

    fn wide(&mut self, byte: u8, utf8: Utf8) -> Result<(), Fault> {
        match utf8.next(byte) {
            Some(Some(utf8)) => self.enter(State::Wide(utf8)),
            Some(None) => self.enter(State::Text),
            None => Err(Fault::NotUtf8 { at: self.at }),
        }
    }
}
