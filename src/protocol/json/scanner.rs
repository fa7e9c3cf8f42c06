//! An incremental JSON scanner: finds where a request ends and where its fields lie. It accepts
//! text split anywhere, reads each byte once, and reports an error at the first byte that cannot
//! belong to a request. It finds spans only; [`request`](super::request) decodes them.

use super::fault::Fault;
use super::fields::{Field, FieldSpans, Span, Utf8};
use crate::limits;

/// The nesting levels that are followed while a refused request is skipped.
const SKIP_DEPTH_LEVELS: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// The text so far is the beginning of a request.
    More,
    /// A request ends after this number of bytes.
    Done(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the request's `{`.
    #[default]
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
    /// In a string, outside an escape or a multi-byte character.
    Text,
    /// In a string, after a backslash.
    Escape,
    /// In a string, with this number of hexadecimal digits of an escape missing.
    Hex(u8),
    /// In a string, inside a multi-byte character.
    Wide(Utf8),
    Number(Number),
    /// In `true`, `false` or `null`; holds the missing rest.
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

/// The scanner of one connection.
#[derive(Debug, Default)]
pub struct Scanner {
    max_message: usize,
    state: State,
    /// One bit for each open container: 1 for an object, 0 for an array.
    kinds: Vec<u64>,
    depth: usize,
    /// Bytes of the request scanned so far.
    at: usize,
    fields: FieldSpans,
    /// The field whose value is being scanned, and the position where the value starts.
    field: Option<Field>,
    value_start: usize,
    key_start: usize,
    in_key: bool,
    /// Total bytes of completely scanned `message` fields.
    messages: usize,
    skipping: bool,
}

impl Scanner {
    pub fn new(max_message: usize) -> Scanner {
        Scanner { max_message, ..Scanner::default() }
    }

    pub fn fields(&self) -> &FieldSpans {
        &self.fields
    }

    pub fn is_idle(&self) -> bool {
        self.state == State::Request
    }

    /// Whether a refused request is being skipped.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Prepares for the next request.
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

    /// Skips the rest of a refused request and returns the number of bytes scanned so far. From now
    /// on each call of [`Scanner::scan`] receives only new text.
    pub fn skip(&mut self) -> usize {
        self.skipping = true;
        std::mem::take(&mut self.at)
    }

    /// Scans what has arrived since the last call. `text` starts at the request's first byte and
    /// holds everything received of it; while skipping, it holds only the next piece.
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

    /// Checks that the unfinished request is within the limits.
    fn check_limits(&self, text: &[u8]) -> Result<(), Fault> {
        let in_value = if self.value_start > 0 { self.at - self.value_start } else { 0 };
        let most = match self.field {
            Some(Field::Message) => Some(self.max_message),
            Some(Field::Tag) => Some(limits::TAG_BYTES),
            // An escaped character takes up to six times its bytes. A list holds many names and has
            // no limit here.
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
        // All `message` fields count together: repeated ones must not hide a request that is too
        // large.
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
        if self.depth > limits::DEPTH_LEVELS && !self.skipping {
            return Err(Fault::TooDeep);
        }
        if self.depth >= SKIP_DEPTH_LEVELS {
            return self.expected("the nesting to end, which is too deep to follow");
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
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
            return self.expected("the matching closing bracket");
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

    /// Ends a value; `at` is one past its last byte.
    fn end_value(&mut self) {
        self.state = State::Comma;
        // While skipping, positions are meaningless.
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
                // The number ended before this byte, which is scanned again as the next token.
                self.end_value();
                return Ok(());
            }
            _ => return self.expected("a digit"),
        };
        self.enter(State::Number(next))
    }

    /// Consumes the plain part of a string and the byte after it.
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
            0x00..=0x1F => self.expected("an escape instead of a bare control character"),
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
