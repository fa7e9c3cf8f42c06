//! What a pickle's values are in JSON. Whatever the pickle refers to twice is written twice, up to
//! the depth and the size of a message.

use std::collections::HashSet;

use super::text::{self, Form};
use super::{Fault, Pickle, Span, Value};
use crate::limits;

const BROKEN_TEXT: Fault = Fault::Broken("a text of it is none");

pub fn write(pickle: &Pickle<'_>, value: Value, most_bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut text = Text { pickle, out: Vec::new(), most_bytes };
    text.value(value, 0)?;
    Ok(text.out)
}

struct Text<'p> {
    pickle: &'p Pickle<'p>,
    out: Vec<u8>,
    most_bytes: usize,
}

impl Text<'_> {
    fn value(&mut self, value: Value, depth: usize) -> Result<(), Fault> {
        match value {
            Value::None => self.add(b"null"),
            Value::Bool(true) => self.add(b"true"),
            Value::Bool(false) => self.add(b"false"),
            Value::Int(number) => self.add(number.to_string().as_bytes()),
            Value::Digits(span) => self.add(self.pickle.slice(span)),
            Value::Long(span) => self.add(text::digits(self.pickle.slice(span)).as_bytes()),
            Value::Float(number) => match serde_json::Number::from_f64(number) {
                Some(number) => self.add(number.to_string().as_bytes()),
                // JSON has neither infinity nor what is no number.
                None => Err(Fault::NotPlain),
            },
            Value::Text(form, span) => self.string(form, span),
            Value::List(node) | Value::Tuple(node) => self.list(node, depth),
            Value::Dict(node) => self.dict(node, depth),
            Value::Maker(_) | Value::Object => Err(Fault::NotPlain),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.out.len() + bytes.len() > self.most_bytes {
            return Err(Fault::TooLarge);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn list(&mut self, node: u32, depth: usize) -> Result<(), Fault> {
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

    fn dict(&mut self, node: u32, depth: usize) -> Result<(), Fault> {
        check_depth(depth)?;
        self.add(b"{")?;
        let pairs = self.pickle.node(node).chunks_exact(2);
        let mut keys = HashSet::new();
        for (index, pair) in pairs.enumerate() {
            let [Value::Text(form, span), value] = pair else { return Err(Fault::NotPlain) };
            if index > 0 {
                self.add(b",")?;
            }
            self.string(*form, *span)?;
            let key = text::decode(*form, self.pickle.slice(*span)).ok_or(BROKEN_TEXT)?;
            if !keys.insert(key) {
                // Python tells b'a' and 'a' apart.
                return Err(Fault::NotPlain);
            }
            self.add(b":")?;
            self.value(*value, depth + 1)?;
        }
        self.add(b"}")
    }

    fn string(&mut self, form: Form, span: Span) -> Result<(), Fault> {
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
                // Half a surrogate pair, which is no UTF-8 but has its way in JSON.
                &[0xED, high @ 0xA0..=0xBF, low @ 0x80..=0xBF, ..] if form.is_text() => {
                    let code = 0xD000 | (u32::from(high & 0x3F) << 6) | u32::from(low & 0x3F);
                    self.add(format!("\\u{code:04x}").as_bytes())?;
                    rest = behind.get(3..).unwrap_or_default();
                }
                _ if form.is_text() => return Err(BROKEN_TEXT),
                _ => return Err(Fault::NotPlain),
            }
        }
        self.add(b"\"")
    }

    fn escape(&mut self, text: &[u8]) -> Result<(), Fault> {
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

fn check_depth(depth: usize) -> Result<(), Fault> {
    if depth >= limits::DEPTH_LEVELS { Err(Fault::TooDeep) } else { Ok(()) }
}
