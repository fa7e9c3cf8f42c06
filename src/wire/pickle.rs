//! Python's pickles, read as data and never executed. Reads protocols 0 to 5 and converts them to
//! JSON; writes protocol 2, which Python 2 and 3 both read.
//!
//! A pickle is a program for a machine with a stack and a memo. `reader` is that machine without
//! calls: where a pickle names a class or calls a function, a [`PickleValue::Object`] takes the
//! place of the result. `json` converts a value only on request, so a pickle that contains itself,
//! or one value many times, costs no more than its own length until then.

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

pub struct Pickle<'p> {
    bytes: &'p [u8],
    /// The contents of lists, tuples and dicts; a dict has its keys and values in turn.
    nodes: Vec<Vec<PickleValue>>,
    root: PickleValue,
}

/// A value in a pickle. It is small because a pickle can hold many; text stays in the pickle's
/// bytes.
#[derive(Clone, Copy, Debug)]
pub enum PickleValue {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// The decimal digits of an integer of more than 64 bits.
    Digits(ByteSpan),
    /// An integer of more than 64 bits as a little-endian two's complement.
    Long(ByteSpan),
    /// Text or bytes.
    Text(TextForm, ByteSpan),
    /// An index into `nodes`.
    List(u32),
    Tuple(u32),
    Dict(u32),
    /// A function with which older protocols make bytes.
    BytesMaker(BytesMaker),
    /// Anything else, which only Python could evaluate.
    Object,
}

/// A function with which older protocols make bytes, since they have no instruction for them.
#[derive(Clone, Copy, Debug)]
pub enum BytesMaker {
    /// `_codecs.encode(text, "latin1")`.
    Encode,
    /// `bytes()`.
    Bytes,
}

/// A range of the pickle's bytes.
#[derive(Clone, Copy, Debug)]
pub struct ByteSpan {
    start: u32,
    len: u32,
}

type Result<T> = std::result::Result<T, PickleError>;

/// Why a pickle cannot be read or converted to JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickleError {
    /// It violates the format.
    Broken(&'static str),
    TooManyValues,
    HugeInteger,
    TooDeep,
    TooLarge,
    /// It holds a value without a JSON equivalent.
    NotPlain,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PickleError::Broken(how) => write!(f, "not a pickle of protocol 0 to 5: {how}"),
            PickleError::TooManyValues => {
                write!(f, "the pickle has more than {} values", limits::PICKLE_VALUES)
            }
            PickleError::HugeInteger => {
                let most = limits::PICKLE_INTEGER_DIGITS;
                write!(f, "the pickle has an integer of more than {most} digits")
            }
            PickleError::TooDeep => {
                let most = limits::DEPTH_LEVELS;
                write!(f, "the payload is nested more than {most} levels deep, or contains itself")
            }
            PickleError::TooLarge => {
                f.write_str("the payload as JSON is larger than a message may be")
            }
            PickleError::NotPlain => f.write_str("the payload is not plain data"),
        }
    }
}

impl<'p> Pickle<'p> {
    /// Reads all of `bytes` as one pickle.
    pub fn read(bytes: &'p [u8]) -> Result<Pickle<'p>> {
        reader::read(bytes)
    }

    pub fn root(&self) -> PickleValue {
        self.root
    }

    /// The value of a dict's key, which may be text or bytes.
    pub fn get(&self, dict: PickleValue, key: &str) -> Option<PickleValue> {
        let PickleValue::Dict(node) = dict else { return None };
        let pairs = self.node(node).chunks_exact(2);
        // Python keeps the last value of a repeated key.
        let mut pairs = pairs.rev().filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
        pairs.find(|(name, _)| self.text(*name).as_deref() == Some(key)).map(|(_, value)| value)
    }

    /// The text of a value, if it is text or UTF-8 bytes.
    pub fn text(&self, value: PickleValue) -> Option<String> {
        let PickleValue::Text(form, span) = value else { return None };
        let text = text::decode(form, self.slice(span))?;
        String::from_utf8(text.into_owned()).ok()
    }

    /// A value as JSON of at most `most_bytes` bytes.
    pub fn json(&self, value: PickleValue, most_bytes: usize) -> Result<Vec<u8>> {
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
