//! Writes pickles of protocol 2 from JSON that was validated when it was put.

use std::fmt;

use serde::Deserializer;
use serde::de::Visitor;

use crate::limits;

/// Writes one pickle, value by value.
pub struct PickleWriter(Vec<u8>);

impl PickleWriter {
    pub fn new() -> PickleWriter {
        PickleWriter(vec![0x80, 2])
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'.');
        self.0
    }

    /// Begins a dict; its keys and values follow in turn.
    pub fn dict(&mut self) {
        self.0.extend_from_slice(b"}(");
    }

    pub fn end_dict(&mut self) {
        self.0.push(b'u');
    }

    pub fn text(&mut self, text: &[u8]) {
        self.0.push(b'X');
        // A message is always smaller than `u32::MAX` bytes.
        self.0.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.0.extend_from_slice(text);
    }

    pub fn int(&mut self, number: i32) {
        self.0.push(b'J');
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn float(&mut self, number: f64) {
        self.0.push(b'G');
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Writes a JSON value. Commas and colons add nothing to the order of the values.
    pub fn json(&mut self, json: &[u8]) {
        let mut rest = json;
        while let Some(&byte) = rest.first() {
            let len = match byte {
                b'{' => self.one(b"}("),
                b'}' => self.one(b"u"),
                b'[' => self.one(b"]("),
                b']' => self.one(b"e"),
                b'"' => self.string(rest),
                b't' => self.word(b"\x88", 4),
                b'f' => self.word(b"\x89", 5),
                b'n' => self.word(b"N", 4),
                b'-' | b'0'..=b'9' => self.number(rest),
                _ => 1,
            };
            rest = rest.get(len..).unwrap_or_default();
        }
    }

    fn one(&mut self, code: &[u8]) -> usize {
        self.word(code, 1)
    }

    fn word(&mut self, code: &[u8], len: usize) -> usize {
        self.0.extend_from_slice(code);
        len
    }

    fn string(&mut self, json: &[u8]) -> usize {
        let mut len = 1;
        while let Some(&byte) = json.get(len)
            && byte != b'"'
        {
            len += if byte == b'\\' { 2 } else { 1 };
        }
        let quoted = json.get(..=len).unwrap_or(json);
        // As bytes, because `str` cannot hold half a surrogate pair, and Python can.
        let text = serde_json::Deserializer::from_slice(quoted).deserialize_bytes(BytesVisitor);
        self.text(&text.unwrap_or_default());
        len + 1
    }

    fn number(&mut self, json: &[u8]) -> usize {
        let end = |byte: &u8| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let len = json.iter().position(end).unwrap_or(json.len());
        let digits = json.get(..len).unwrap_or(json);
        let text = str::from_utf8(digits).unwrap_or("0");
        let is_float = digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        if let Ok(small) = text.parse() {
            self.int(small);
        } else if is_float || len > limits::PICKLE_INTEGER_DIGITS {
            // Beyond the range of a double it becomes infinite, as in Python's own JSON reader.
            self.float(text.parse().unwrap_or(0.0));
        } else {
            self.0.push(b'L');
            self.0.extend_from_slice(digits);
            self.0.extend_from_slice(b"L\n");
        }
        len
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}
