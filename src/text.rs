//! Reads the text of a JSON string, for the client and for protocols that carry text.

use std::fmt;

use serde::Deserializer;
use serde::de::Visitor;

/// The text of a JSON string; `None` for other JSON. Half a surrogate pair becomes U+FFFD.
pub fn of_json(json: &[u8]) -> Option<String> {
    serde_json::Deserializer::from_slice(json).deserialize_bytes(StringVisitor).ok()
}

/// Reads a JSON string as bytes, because `str` cannot hold half a surrogate pair.
struct StringVisitor;

impl Visitor<'_> for StringVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            // The three bytes of half a pair are three invalid chunks; only the first begins with
            // 0xED.
            if chunk.invalid().first() == Some(&0xED) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Ok(text)
    }
}
