//! Python's pickles, read as data and never run: protocols 0 to 5 come in, JSON goes out; what goes
//! to Python is a pickle of protocol 2, which Python 2 and 3 both read.
//!
//! A pickle is a program for a machine with a stack and a memo. `reader` is that machine without
//! its calls: where a pickle names a class or calls something, an [`PickleValue::Object`] stands for
//! whatever Python would have made. What a value means in JSON is decided in `json` when it is
//! asked for, so that a pickle that refers to itself, or many times to the same, costs no more than
//! its own length until then.

#[cfg(any(test, fuzzing))]
pub mod check;
mod json;
mod reader;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use std::fmt;

use self::text::TextForm;
pub use self::writer::PickleWriter;
use crate::limits;

/// A pickle that was read.
pub struct Pickle<'p> {
    bytes: &'p [u8],
    /// What lists, tuples and dicts hold; a dict its keys and values in turns.
    nodes: Vec<Vec<PickleValue>>,
    root: PickleValue,
}

/// A value of a pickle. It is small, since a pickle may hold many; text stays where it came.
#[derive(Clone, Copy, Debug)]
pub enum PickleValue {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer of more than 64 bits: its decimal digits.
    Digits(ByteSpan),
    /// The same as a little-endian two's complement.
    Long(ByteSpan),
    /// Text or bytes.
    Text(TextForm, ByteSpan),
    /// By their place in `nodes`.
    List(u32),
    Tuple(u32),
    Dict(u32),
    /// What older pickles call to make bytes.
    BytesMaker(BytesMaker),
    /// Anything else: what it is only Python knows.
    Object,
}

/// What older pickles call to make bytes, which they have no other word for.
#[derive(Clone, Copy, Debug)]
pub enum BytesMaker {
    /// `_codecs.encode`, of a text and "latin1".
    Encode,
    /// `bytes`, of nothing.
    Bytes,
}

/// Where something stands in a pickle.
#[derive(Clone, Copy, Debug)]
pub struct ByteSpan {
    start: u32,
    len: u32,
}

/// Why a pickle was not read, or has no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickleError {
    /// It breaks the rules of pickles.
    Broken(&'static str),
    TooManyValues,
    HugeInteger,
    TooDeep,
    TooLarge,
    /// It holds what JSON has not.
    NotPlain,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PickleError::Broken(how) => write!(f, "this is no pickle of protocol 0 to 5: {how}"),
            PickleError::TooManyValues => {
                write!(f, "the pickle has more than {} values", limits::PICKLE_VALUES)
            }
            PickleError::HugeInteger => {
                let most = limits::PICKLE_INTEGER_DIGITS;
                write!(f, "the pickle has an integer of more than {most} digits")
            }
            PickleError::TooDeep => {
                let most = limits::DEPTH_LEVELS;
                write!(f, "the payload is nested more than {most} deep, or holds itself")
            }
            PickleError::TooLarge => {
                f.write_str("the payload as JSON is larger than a message may be")
            }
            PickleError::NotPlain => f.write_str("the payload is not plain data"),
        }
    }
}

impl<'p> Pickle<'p> {
    /// Reads the whole of `bytes` as one pickle.
    pub fn read(bytes: &'p [u8]) -> Result<Pickle<'p>, PickleError> {
        reader::read(bytes)
    }

    pub fn root(&self) -> PickleValue {
        self.root
    }

    /// A value of a dict by its key, as text or bytes.
    pub fn get(&self, dict: PickleValue, key: &str) -> Option<PickleValue> {
        let PickleValue::Dict(node) = dict else { return None };
        let pairs = self.node(node).chunks_exact(2);
        // Of two with one key Python keeps the one that came last.
        let mut pairs = pairs.rev().filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
        pairs.find(|(name, _)| self.text(*name).as_deref() == Some(key)).map(|(_, value)| value)
    }

    /// A value's text, if it is text, or bytes that are UTF-8.
    pub fn text(&self, value: PickleValue) -> Option<String> {
        let PickleValue::Text(form, span) = value else { return None };
        let text = text::decode(form, self.slice(span))?;
        String::from_utf8(text.into_owned()).ok()
    }

    /// A value as JSON text of at most so many bytes.
    pub fn json(&self, value: PickleValue, most_bytes: usize) -> Result<Vec<u8>, PickleError> {
        json::write(self, value, most_bytes)
    }

    fn node(&self, node: u32) -> &[PickleValue] {
        self.nodes.get(node as usize).map_or(&[], Vec::as_slice)
    }

    fn slice(&self, span: ByteSpan) -> &'p [u8] {
        span.of(self.bytes)
    }
}

impl ByteSpan {
    const EMPTY: ByteSpan = ByteSpan { start: 0, len: 0 };

    fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}
