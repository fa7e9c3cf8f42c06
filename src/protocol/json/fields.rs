//! The lexical parts of a request: its known fields with their spans, and the contents of JSON
//! strings (plain bytes, UTF-8 sequences, escapes).

use std::borrow::Cow;

use crate::text;

/// Every field that an action reads. The scanner ignores all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Action,
    Topic,
    Message,
    Confirm,
    Wait,
    Since,
    Meta,
    Tag,
    Priority,
    Ttl,
    Delay,
    Dedupe,
    Lease,
    Id,
    Deliveries,
    From,
    Limit,
    Policy,
    Delayed,
}

const FIELDS: usize = Field::Delayed as usize + 1;

/// The names of the fields, in the order of [`Field`].
pub const NAMES: [&str; FIELDS] = [
    "action",
    "topic",
    "message",
    "confirm",
    "wait",
    "since",
    "meta",
    "tag",
    "priority",
    "ttl",
    "delay",
    "dedupe",
    "lease",
    "id",
    "deliveries",
    "from",
    "limit",
    "policy",
    "delayed",
];

impl Field {
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or_default()
    }

    /// Looks up a key, which is given without quotes and without escapes.
    pub fn from_name(key: &[u8]) -> Option<Field> {
        Some(match key {
            b"action" => Field::Action,
            b"topic" => Field::Topic,
            b"message" => Field::Message,
            b"confirm" => Field::Confirm,
            b"wait" => Field::Wait,
            b"since" => Field::Since,
            b"meta" => Field::Meta,
            b"tag" => Field::Tag,
            b"priority" => Field::Priority,
            b"ttl" => Field::Ttl,
            b"delay" => Field::Delay,
            b"dedupe" => Field::Dedupe,
            b"lease" => Field::Lease,
            b"id" => Field::Id,
            b"deliveries" => Field::Deliveries,
            b"from" => Field::From,
            b"limit" => Field::Limit,
            b"policy" => Field::Policy,
            b"delayed" => Field::Delayed,
            _ => return None,
        })
    }
}

/// The byte range of a field's value in the request, without surrounding white space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The spans of a request's known fields. If a field occurs twice, the last one counts.
#[derive(Clone, Debug, Default)]
pub struct FieldSpans {
    /// One bit for each present field. The spans of absent fields are stale.
    present: u32,
    spans: [Span; FIELDS],
}

impl FieldSpans {
    /// Returns the JSON text of a field.
    pub fn get<'a>(&self, request: &'a [u8], field: Field) -> Option<&'a [u8]> {
        let span = self.spans.get(field as usize)?;
        let present = self.present & 1 << field as u32 != 0;
        if present { request.get(span.start..span.end) } else { None }
    }

    pub fn set(&mut self, field: Field, span: Span) {
        if let Some(slot) = self.spans.get_mut(field as usize) {
            *slot = span;
            self.present |= 1 << field as u32;
        }
    }

    pub fn clear(&mut self) {
        self.present = 0;
    }
}

/// Length of the prefix of `text` that consists of ASCII which a JSON string holds unescaped.
pub fn plain_len(text: &[u8]) -> usize {
    // The fold has no branch, so the compiler vectorises each block.
    const BLOCK: usize = 32;
    let blocks = text.chunks_exact(BLOCK);
    let plain = blocks.take_while(|block| block.iter().fold(true, |all, &b| all & is_plain(b)));
    let start = plain.count() * BLOCK;
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len())
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// The state inside a multi-byte UTF-8 character (RFC 3629: no overlong forms, no surrogates,
/// nothing above U+10FFFF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8 {
    /// Bytes still missing.
    left: u8,
    /// Range of the next byte; all later bytes are in 0x80..=0xBF.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// The state after `byte`, if it starts a multi-byte character.
    pub fn first(byte: u8) -> Option<Utf8> {
        let (left, low, high) = match byte {
            0xC2..=0xDF => (1, 0x80, 0xBF),
            0xE0 => (2, 0xA0, 0xBF),
            0xED => (2, 0x80, 0x9F),
            0xE1..=0xEF => (2, 0x80, 0xBF),
            0xF0 => (3, 0x90, 0xBF),
            0xF1..=0xF3 => (3, 0x80, 0xBF),
            0xF4 => (3, 0x80, 0x8F),
            _ => return None,
        };
        Some(Utf8 { left, low, high })
    }

    /// The state after one more byte: `Some(None)` if the character is complete, `None` if `byte`
    /// is invalid here.
    pub fn next(self, byte: u8) -> Option<Option<Utf8>> {
        if !(self.low..=self.high).contains(&byte) {
            return None;
        }
        let more = self.left > 1;
        Some(more.then_some(Utf8 { left: self.left - 1, low: 0x80, high: 0xBF }))
    }
}

/// Decodes the escapes of a string's contents; `None` if a surrogate is unpaired.
pub fn unescape(inside: &[u8]) -> Option<String> {
    let quoted = [b"\"", inside, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

/// The text of a JSON string, or the JSON text of any other value. An unpaired surrogate becomes
/// U+FFFD.
pub fn text(json: &[u8]) -> Cow<'_, str> {
    text::of_json(json).map_or_else(|| String::from_utf8_lossy(json), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_name() {
        for (index, name) in NAMES.iter().enumerate() {
            let field = Field::from_name(name.as_bytes()).unwrap();
            assert_eq!((field as usize, field.name()), (index, *name));
        }
    }

    #[test]
    fn text_of_a_string_is_unescaped() {
        for (json, expected) in [
            (r#""a\n\u00e9 \"""#, "a\n\u{e9} \""),
            (r#""\ud83d\ude00 \ud83d \ude00""#, "\u{1f600} \u{fffd} \u{fffd}"),
            (r#"{"a": 1.50}"#, r#"{"a": 1.50}"#),
            ("[\"a\"]", "[\"a\"]"),
            ("1e5", "1e5"),
        ] {
            assert_eq!(super::text(json.as_bytes()), expected);
        }
    }
}
