//! Converts a pickle's values to JSON. A value that occurs twice is written twice; the depth and
//! the size of the result are bounded.

use std::collections::HashSet;

use super::text::{self, TextForm};
use super::{ByteSpan, Pickle, PickleError, PickleValue, Result};
use crate::limits;

const BROKEN_TEXT: PickleError = PickleError::Broken("a text is not validly encoded");

pub fn write(pickle: &Pickle<'_>, value: PickleValue, most_bytes: usize) -> Result<Vec<u8>> {
    let mut text = JsonText { pickle, out: Vec::new(), most_bytes };
    text.value(value, 0)?;
    Ok(text.out)
}

struct JsonText<'p> {
    pickle: &'p Pickle<'p>,
    out: Vec<u8>,
    most_bytes: usize,
}

impl JsonText<'_> {
    fn value(&mut self, value: PickleValue, depth: usize) -> Result<()> {
        match value {
            PickleValue::None => self.add(b"null"),
            PickleValue::Bool(true) => self.add(b"true"),
            PickleValue::Bool(false) => self.add(b"false"),
            PickleValue::Int(number) => self.add(number.to_string().as_bytes()),
            PickleValue::Digits(span) => self.add(self.pickle.slice(span)),
            PickleValue::Long(span) => self.add(text::digits(self.pickle.slice(span)).as_bytes()),
            PickleValue::Float(number) => match serde_json::Number::from_f64(number) {
                Some(number) => self.add(number.to_string().as_bytes()),
                // JSON has no infinity and no NaN.
                None => Err(PickleError::NotPlain),
            },
            PickleValue::Text(form, span) => self.string(form, span),
            PickleValue::List(node) | PickleValue::Tuple(node) => self.list(node, depth),
            PickleValue::Dict(node) => self.dict(node, depth),
            PickleValue::BytesMaker(_) | PickleValue::Object => Err(PickleError::NotPlain),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if self.out.len() + bytes.len() > self.most_bytes {
            return Err(PickleError::TooLarge);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn list(&mut self, node: u32, depth: usize) -> Result<()> {
        check_depth(depth)?;
        self.add(b"[")?;
        for (index, value) in self.pickle.node(node).iter().enumerate() {
            if index > 0 {
                self.add(b",")?;
            }
            self.value(*value, depth + 1)?;
        }
        self.add(b"]")
    }

    fn dict(&mut self, node: u32, depth: usize) -> Result<()> {
        check_depth(depth)?;
        self.add(b"{")?;
        let pairs = self.pickle.node(node).chunks_exact(2);
        let mut keys = HashSet::new();
        for (index, pair) in pairs.enumerate() {
            let [PickleValue::Text(form, span), value] = pair else {
                return Err(PickleError::NotPlain);
            };
            if index > 0 {
                self.add(b",")?;
            }
            self.string(*form, *span)?;
            let key = text::decode(*form, self.pickle.slice(*span)).ok_or(BROKEN_TEXT)?;
            if !keys.insert(key) {
                // In Python b'a' and 'a' are different keys.
                return Err(PickleError::NotPlain);
            }
            self.add(b":")?;
            self.value(*value, depth + 1)?;
        }
        self.add(b"}")
    }

    fn string(&mut self, form: TextForm, span: ByteSpan) -> Result<()> {
        let text = text::decode(form, self.pickle.slice(span)).ok_or(BROKEN_TEXT)?;
        self.add(b"\"")?;
        let mut rest = &*text;
        while !rest.is_empty() {
            let valid = match str::from_utf8(rest) {
                Ok(_) => rest.len(),
                Err(error) => error.valid_up_to(),
            };
            let (plain, behind) = rest.split_at_checked(valid).unwrap_or((rest, &[]));
            self.escape(plain)?;
            rest = behind;
            match behind {
                [] => {}
                // Half a surrogate pair is not UTF-8, but has an escape in JSON.
                &[0xED, high @ 0xA0..=0xBF, low @ 0x80..=0xBF, ..] if form.is_text() => {
                    let code = 0xD000 | (u32::from(high & 0x3F) << 6) | u32::from(low & 0x3F);
                    self.add(format!("\\u{code:04x}").as_bytes())?;
                    rest = behind.get(3..).unwrap_or_default();
                }
                _ if form.is_text() => return Err(BROKEN_TEXT),
                _ => return Err(PickleError::NotPlain),
            }
        }
        self.add(b"\"")
    }

    fn escape(&mut self, text: &[u8]) -> Result<()> {
        let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        let mut rest = text;
        while let Some(at) = rest.iter().position(special) {
            let (plain, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            self.add(plain)?;
            let Some((&byte, behind)) = behind.split_first() else { break };
            match byte {
                b'"' | b'\\' => self.add(&[b'\\', byte])?,
                0x08 => self.add(b"\\b")?,
                0x0C => self.add(b"\\f")?,
                b'\n' => self.add(b"\\n")?,
                b'\r' => self.add(b"\\r")?,
                b'\t' => self.add(b"\\t")?,
                _ => self.add(format!("\\u{byte:04x}").as_bytes())?,
            }
            rest = behind;
        }
        self.add(rest)
    }
}

fn check_depth(depth: usize) -> Result<()> {
    if depth >= limits::DEPTH_LEVELS { Err(PickleError::TooDeep) } else { Ok(()) }
}
