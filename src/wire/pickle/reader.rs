//! Reads a pickle: the pickle machine without its calls. Memory grows with the bytes read, never
//! with a length that the pickle claims.

use std::collections::HashMap;

use super::text::{self, TextForm};
use super::{ByteSpan, BytesMaker, Pickle, PickleError, PickleValue, Result};
use crate::limits;

const CUT_OFF: PickleError = PickleError::Broken("the pickle is cut off");
const EMPTY_STACK: PickleError =
    PickleError::Broken("an instruction needs more values than the stack holds");
const NO_MARK: PickleError = PickleError::Broken("a mark is missing");
const NO_CONTAINER: PickleError =
    PickleError::Broken("a value is added to something that is not a container");

/// The latest protocol that can be read.
const PROTOCOL_MAX: u8 = 5;

pub fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(PickleError::TooLarge);
    }
    let mut machine = Machine { input: Input { bytes, at: 0 }, ..Machine::default() };
    let root = loop {
        if let Some(root) = machine.step()? {
            break root;
        }
    };
    if machine.input.at < bytes.len() {
        return Err(PickleError::Broken("there are bytes after its end"));
    }
    Ok(Pickle { bytes, nodes: machine.nodes, root })
}

#[derive(Default)]
struct Machine<'p> {
    input: Input<'p>,
    stack: Vec<PickleValue>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, PickleValue>,
    nodes: Vec<Vec<PickleValue>>,
    /// The number of values, marks and memo entries made so far.
    made: usize,
}

impl Machine<'_> {
    /// Executes one instruction; the last one returns the root value.
    fn step(&mut self) -> Result<Option<PickleValue>> {
        let code = self.input.byte()?;
        match code {
            b'.' => {
                let root = self.pop()?;
                let alone = self.stack.is_empty() && self.marks.is_empty();
                return if alone {
                    Ok(Some(root))
                } else {
                    Err(PickleError::Broken("values are left on the stack"))
                };
            }
            0x80 => {
                if self.input.byte()? > PROTOCOL_MAX {
                    return Err(PickleError::Broken("its protocol is later than 5"));
                }
            }
            // A frame only announces how many bytes to buffer.
            0x95 => {
                let len = self.input.length(8)?;
                self.input.has(len)?;
            }
            b'(' => {
                self.count()?;
                self.marks.push(self.stack.len());
            }
            b'0' => self.drop_top()?,
            b'1' => drop(self.take_marked()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'p' | b'q' | b'r' | 0x94 => self.memorise(code)?,
            b'g' | b'h' | b'j' => {
                let index = self.index(code)?;
                let value = self.memo.get(&index).copied();
                self.push(value.ok_or(PickleError::Broken("it reads an empty memo entry"))?)?;
            }
            b'l' | b't' | b'd' | b']' | b')' | b'}' | 0x85..=0x87 => self.make(code)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.add(code)?,
            b'N' | b'I' | b'J' | b'K' | b'L' | b'M' | b'F' | b'G' | 0x88..=0x8b => {
                let value = self.scalar(code)?;
                self.push(value)?;
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e => {
                let value = self.text(code)?;
                self.push(value)?;
            }
            _ => self.object(code)?,
        }
        Ok(None)
    }

    fn count(&mut self) -> Result<()> {
        self.made += 1;
        if self.made > limits::PICKLE_VALUES {
            return Err(PickleError::TooManyValues);
        }
        Ok(())
    }

    fn push(&mut self, value: PickleValue) -> Result<()> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    /// Values below the last mark cannot be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<PickleValue> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY_STACK);
        }
        self.stack.pop().ok_or(EMPTY_STACK)
    }

    fn top(&self) -> Result<PickleValue> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY_STACK);
        }
        self.stack.last().copied().ok_or(EMPTY_STACK)
    }

    /// Drops the top value, or the mark on top.
    fn drop_top(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn take_marked(&mut self) -> Result<Vec<PickleValue>> {
        let mark = self.marks.pop().ok_or(NO_MARK)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// Pops the last `count` values.
    fn take(&mut self, count: usize) -> Result<Vec<PickleValue>> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        Ok(self.stack.split_off(from.ok_or(EMPTY_STACK)?))
    }

    fn index(&mut self, code: u8) -> Result<u32> {
        let index = match code {
            b'p' | b'g' => {
                let line = str::from_utf8(self.input.line()?.of(self.input.bytes)).ok();
                return line
                    .and_then(|line| line.parse().ok())
                    .ok_or(PickleError::Broken("a memo number is invalid"));
            }
            b'q' | b'h' => self.input.length(1)?,
            b'r' | b'j' => self.input.length(4)?,
            _ => self.memo.len() as u64,
        };
        u32::try_from(index).map_err(|_| PickleError::TooManyValues)
    }

    fn memorise(&mut self, code: u8) -> Result<()> {
        let index = self.index(code)?;
        let top = self.top()?;
        self.count()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn node(&mut self, values: Vec<PickleValue>) -> u32 {
        self.nodes.push(values);
        // There are at most `PICKLE_VALUES`.
        (self.nodes.len() - 1) as u32
    }

    /// Makes a list, tuple or dict.
    fn make(&mut self, code: u8) -> Result<()> {
        let values = match code {
            b'l' | b't' | b'd' => self.take_marked()?,
            0x85..=0x87 => self.take(usize::from(code - 0x84))?,
            _ => Vec::new(),
        };
        if code == b'd' && values.len() % 2 == 1 {
            return Err(PickleError::Broken("a dict has a key without a value"));
        }
        let node = self.node(values);
        self.push(match code {
            b'l' | b']' => PickleValue::List(node),
            b'd' | b'}' => PickleValue::Dict(node),
            _ => PickleValue::Tuple(node),
        })
    }

    /// Adds values to the list, dict or set on the stack.
    fn add(&mut self, code: u8) -> Result<()> {
        let values = match code {
            b'a' => self.take(1)?,
            b's' => self.take(2)?,
            _ => self.take_marked()?,
        };
        let node = match (self.top()?, code) {
            (PickleValue::List(node), b'a' | b'e') => node,
            (PickleValue::Dict(node), b's' | b'u') => {
                if values.len() % 2 == 1 {
                    return Err(PickleError::Broken("a dict has a key without a value"));
                }
                node
            }
            (PickleValue::Object, _) => return Ok(()),
            _ => return Err(NO_CONTAINER),
        };
        self.nodes.get_mut(node as usize).ok_or(NO_CONTAINER)?.extend(values);
        Ok(())
    }

    fn scalar(&mut self, code: u8) -> Result<PickleValue> {
        let value = match code {
            b'N' => PickleValue::None,
            0x88 => PickleValue::Bool(true),
            0x89 => PickleValue::Bool(false),
            b'K' | b'M' => {
                let number = self.input.length(if code == b'K' { 1 } else { 2 })?;
                PickleValue::Int(number.cast_signed())
            }
            b'J' => PickleValue::Int(i64::from(self.input.length(4)? as u32 as i32)),
            b'G' => PickleValue::Float(f64::from_bits(self.input.length(8)?.swap_bytes())),
            b'F' => {
                let line = str::from_utf8(self.input.line()?.of(self.input.bytes)).ok();
                let number = line.and_then(|line| line.parse().ok());
                PickleValue::Float(number.ok_or(PickleError::Broken("a float is invalid"))?)
            }
            b'I' | b'L' => {
                let line = self.input.line()?;
                match line.of(self.input.bytes) {
                    b"00" if code == b'I' => PickleValue::Bool(false),
                    b"01" if code == b'I' => PickleValue::Bool(true),
                    digits => text::decimal(digits, line.start)?,
                }
            }
            _ => {
                let len = self.input.length(if code == 0x8a { 1 } else { 4 })?;
                let span = self.input.span(len)?;
                text::long(span.of(self.input.bytes), span)?
            }
        };
        Ok(value)
    }

    fn text(&mut self, code: u8) -> Result<PickleValue> {
        let (form, width) = match code {
            b'V' => return Ok(PickleValue::Text(TextForm::Escaped, self.input.line()?)),
            b'S' => return Ok(PickleValue::Text(TextForm::Quoted, self.input.line()?)),
            b'X' => (TextForm::Utf8, 4),
            0x8c => (TextForm::Utf8, 1),
            0x8d => (TextForm::Utf8, 8),
            b'T' | b'B' => (TextForm::Bytes, 4),
            0x8e => (TextForm::Bytes, 8),
            _ => (TextForm::Bytes, 1),
        };
        let len = self.input.length(width)?;
        Ok(PickleValue::Text(form, self.input.span(len)?))
    }

    /// Replaces lookups and calls by [`PickleValue::Object`], except those that make bytes.
    fn object(&mut self, code: u8) -> Result<()> {
        let made = match code {
            b'c' => self.global()?,
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.called(callable, arguments)
            }
            _ => {
                self.skip_object(code)?;
                PickleValue::Object
            }
        };
        self.push(made)
    }

    /// A global by module and name.
    fn global(&mut self) -> Result<PickleValue> {
        let (module, name) = (self.input.line()?, self.input.line()?);
        let bytes = self.input.bytes;
        Ok(match (module.of(bytes), name.of(bytes)) {
            (b"_codecs", b"encode") => PickleValue::BytesMaker(BytesMaker::Encode),
            (b"__builtin__" | b"builtins", b"bytes") => PickleValue::BytesMaker(BytesMaker::Bytes),
            _ => PickleValue::Object,
        })
    }

    /// Reads the operands of an instruction that makes an object.
    fn skip_object(&mut self, code: u8) -> Result<()> {
        match code {
            // A persistent id, or a number of the extension registry.
            b'P' => drop(self.input.line()?),
            b'Q' => drop(self.take(1)?),
            0x82 => drop(self.input.length(1)?),
            0x83 => drop(self.input.length(2)?),
            0x84 => drop(self.input.length(4)?),
            // An instance: by module and name, of a class on the stack, or made by `__new__`.
            b'i' => {
                self.global()?;
                self.take_marked()?;
            }
            b'o' => drop(self.take_marked()?),
            0x92 => drop(self.take(3)?),
            // The same without keywords, a state for an instance, or a global by two texts.
            0x81 | b'b' | 0x93 => drop(self.take(2)?),
            // Sets, frozen sets and bytearrays.
            0x8f => {}
            0x91 => drop(self.take_marked()?),
            0x96 => {
                let len = self.input.length(8)?;
                self.input.span(len)?;
            }
            0x97 | 0x98 => {
                return Err(PickleError::Broken("out-of-band buffers are not supported"));
            }
            _ => return Err(PickleError::Broken("it has an unknown instruction")),
        }
        Ok(())
    }

    /// The bytes that a call of a [`BytesMaker`] makes, else an object.
    fn called(&self, callable: PickleValue, arguments: PickleValue) -> PickleValue {
        let PickleValue::Tuple(node) = arguments else { return PickleValue::Object };
        let arguments = self.nodes.get(node as usize).map_or(&[][..], Vec::as_slice);
        match (callable, arguments) {
            (PickleValue::BytesMaker(BytesMaker::Bytes), []) => {
                PickleValue::Text(TextForm::Bytes, ByteSpan::EMPTY)
            }
            (
                PickleValue::BytesMaker(BytesMaker::Encode),
                [PickleValue::Text(form, span), PickleValue::Text(_, name)],
            ) if name.of(self.input.bytes) == b"latin1" => {
                form.latin1().map_or(PickleValue::Object, |form| PickleValue::Text(form, *span))
            }
            _ => PickleValue::Object,
        }
    }
}

#[derive(Default)]
struct Input<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied().ok_or(CUT_OFF)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads a little-endian number of `width` bytes.
    fn length(&mut self, width: usize) -> Result<u64> {
        let bytes = self.bytes.get(self.at..self.at + width).ok_or(CUT_OFF)?;
        self.at += width;
        Ok(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Checks that `len` bytes are left.
    fn has(&self, len: u64) -> Result<()> {
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(PickleError::Broken("a length exceeds the bytes that are left"));
        }
        Ok(())
    }

    fn span(&mut self, len: u64) -> Result<ByteSpan> {
        self.has(len)?;
        // A pickle has at most `u32::MAX` bytes.
        let span = ByteSpan { start: self.at as u32, len: len as u32 };
        self.at += len as usize;
        Ok(span)
    }

    /// Reads up to the end of the line, and skips the line feed.
    fn line(&mut self) -> Result<ByteSpan> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT_OFF)?;
        let span = self.span(len as u64)?;
        self.at += 1;
        Ok(span)
    }
}
