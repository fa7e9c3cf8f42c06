//! The machine that a pickle is a program for, without its calls. It takes memory only for what has
//! come, never for what is claimed.

use std::collections::HashMap;

use super::text::{self, Form};
use super::{Fault, Maker, Pickle, Span, Value};
use crate::limits;

const CUT_OFF: Fault = Fault::Broken("it ends before its end");
const EMPTY_STACK: Fault = Fault::Broken("it takes more from its stack than there is");
const NO_MARK: Fault = Fault::Broken("it looks for a mark that is not there");
const NO_CONTAINER: Fault = Fault::Broken("it adds to what holds nothing");

/// Protocols up to this one.
const PROTOCOL_MAX: u8 = 5;

pub fn read(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Fault::TooLarge);
    }
    let input = Input { bytes, at: 0 };
    let mut machine = Machine {
        input,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        made: 0,
    };
    let root = loop {
        if let Some(root) = machine.step()? {
            break root;
        }
    };
    if machine.input.at < bytes.len() {
        return Err(Fault::Broken("there is more behind its end"));
    }
    Ok(Pickle { bytes, nodes: machine.nodes, root })
}

struct Machine<'p> {
    input: Input<'p>,
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Vec<Value>>,
    /// What took memory so far: values, marks, memos.
    made: usize,
}

impl Machine<'_> {
    /// One instruction; the last one returns what the pickle is of.
    fn step(&mut self) -> Result<Option<Value>, Fault> {
        let code = self.input.byte()?;
        match code {
            b'.' => {
                let root = self.pop()?;
                let alone = self.stack.is_empty() && self.marks.is_empty();
                return if alone { Ok(Some(root)) } else { Err(Fault::Broken("values are left")) };
            }
            0x80 => {
                if self.input.byte()? > PROTOCOL_MAX {
                    return Err(Fault::Broken("it has a later protocol"));
                }
            }
            // A frame only says how much to read at a time.
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
                self.push(value.ok_or(Fault::Broken("it asks for what it has not memorised"))?)?;
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

    fn count(&mut self) -> Result<(), Fault> {
        self.made += 1;
        if self.made > limits::PICKLE_VALUES {
            return Err(Fault::TooManyValues);
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    /// Nothing below the last mark can be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY_STACK);
        }
        self.stack.pop().ok_or(EMPTY_STACK)
    }

    fn top(&self) -> Result<Value, Fault> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY_STACK);
        }
        self.stack.last().copied().ok_or(EMPTY_STACK)
    }

    /// Takes the value on top away, or the mark that is there.
    fn drop_top(&mut self) -> Result<(), Fault> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn take_marked(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().ok_or(NO_MARK)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// Takes the last so many values.
    fn take(&mut self, count: usize) -> Result<Vec<Value>, Fault> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        Ok(self.stack.split_off(from.ok_or(EMPTY_STACK)?))
    }

    fn index(&mut self, code: u8) -> Result<u32, Fault> {
        let index = match code {
            b'p' | b'g' => {
                let line = str::from_utf8(self.input.line()?.of(self.input.bytes)).ok();
                return line
                    .and_then(|line| line.parse().ok())
                    .ok_or(Fault::Broken("a memo has a number"));
            }
            b'q' | b'h' => self.input.length(1)?,
            b'r' | b'j' => self.input.length(4)?,
            _ => self.memo.len() as u64,
        };
        u32::try_from(index).map_err(|_| Fault::TooManyValues)
    }

    fn memorise(&mut self, code: u8) -> Result<(), Fault> {
        let index = self.index(code)?;
        let top = self.top()?;
        self.count()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn node(&mut self, values: Vec<Value>) -> u32 {
        self.nodes.push(values);
        // There are fewer than PICKLE_VALUES.
        (self.nodes.len() - 1) as u32
    }

    /// Lists, tuples and dicts.
    fn make(&mut self, code: u8) -> Result<(), Fault> {
        let values = match code {
            b'l' | b't' | b'd' => self.take_marked()?,
            0x85..=0x87 => self.take(usize::from(code - 0x84))?,
            _ => Vec::new(),
        };
        if code == b'd' && values.len() % 2 == 1 {
            return Err(Fault::Broken("a dict has a key without a value"));
        }
        let node = self.node(values);
        self.push(match code {
            b'l' | b']' => Value::List(node),
            b'd' | b'}' => Value::Dict(node),
            _ => Value::Tuple(node),
        })
    }

    /// Adds to the list, dict or set on the stack.
    fn add(&mut self, code: u8) -> Result<(), Fault> {
        let values = match code {
            b'a' => self.take(1)?,
            b's' => self.take(2)?,
            _ => self.take_marked()?,
        };
        let node = match (self.top()?, code) {
            (Value::List(node), b'a' | b'e') => node,
            (Value::Dict(node), b's' | b'u') => {
                if values.len() % 2 == 1 {
                    return Err(Fault::Broken("a dict has a key without a value"));
                }
                node
            }
            (Value::Object, _) => return Ok(()),
            _ => return Err(NO_CONTAINER),
        };
        self.nodes.get_mut(node as usize).ok_or(NO_CONTAINER)?.extend(values);
        Ok(())
    }

    fn scalar(&mut self, code: u8) -> Result<Value, Fault> {
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' | b'M' => {
                let number = self.input.length(if code == b'K' { 1 } else { 2 })?;
                Value::Int(number.cast_signed())
            }
            b'J' => Value::Int(i64::from(self.input.length(4)? as u32 as i32)),
            b'G' => Value::Float(f64::from_bits(self.input.length(8)?.swap_bytes())),
            b'F' => {
                let line = str::from_utf8(self.input.line()?.of(self.input.bytes)).ok();
                let number = line.and_then(|line| line.parse().ok());
                Value::Float(number.ok_or(Fault::Broken("a float is none"))?)
            }
            b'I' | b'L' => {
                let line = self.input.line()?;
                match line.of(self.input.bytes) {
                    b"00" if code == b'I' => Value::Bool(false),
                    b"01" if code == b'I' => Value::Bool(true),
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

    fn text(&mut self, code: u8) -> Result<Value, Fault> {
        let (form, width) = match code {
            b'V' => return Ok(Value::Text(Form::Escaped, self.input.line()?)),
            b'S' => return Ok(Value::Text(Form::Quoted, self.input.line()?)),
            b'X' => (Form::Utf8, 4),
            0x8c => (Form::Utf8, 1),
            0x8d => (Form::Utf8, 8),
            b'T' | b'B' => (Form::Bytes, 4),
            0x8e => (Form::Bytes, 8),
            _ => (Form::Bytes, 1),
        };
        let len = self.input.length(width)?;
        Ok(Value::Text(form, self.input.span(len)?))
    }

    /// What Python would look up or call stays what it is: nobody knows.
    fn object(&mut self, code: u8) -> Result<(), Fault> {
        let made = match code {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let bytes = self.input.bytes;
                match (module.of(bytes), name.of(bytes)) {
                    (b"_codecs", b"encode") => Value::Maker(Maker::Encode),
                    (b"__builtin__" | b"builtins", b"bytes") => Value::Maker(Maker::Bytes),
                    _ => Value::Object,
                }
            }
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.called(callable, arguments)
            }
            // By an id, by a number of the registry, or by two texts.
            b'P' => self.input.line().map(|_| Value::Object)?,
            b'Q' => self.take(1).map(|_| Value::Object)?,
            0x82..=0x84 => {
                let width = [1, 2, 4].get(usize::from(code - 0x82)).copied().unwrap_or(4);
                self.input.length(width).map(|_| Value::Object)?
            }
            0x93 => self.take(2).map(|_| Value::Object)?,
            // An instance: of a name, of a class on the stack, or made by its class's `__new__`.
            b'i' => {
                self.input.line()?;
                self.input.line()?;
                self.take_marked().map(|_| Value::Object)?
            }
            b'o' => self.take_marked().map(|_| Value::Object)?,
            0x81 => self.take(2).map(|_| Value::Object)?,
            0x92 => self.take(3).map(|_| Value::Object)?,
            // A state for the instance below it.
            b'b' => self.take(2).map(|_| Value::Object)?,
            // Sets, and a bytearray.
            0x8f => Value::Object,
            0x91 => self.take_marked().map(|_| Value::Object)?,
            0x96 => {
                let len = self.input.length(8)?;
                self.input.span(len).map(|_| Value::Object)?
            }
            0x97 | 0x98 => return Err(Fault::Broken("a part of it was sent apart")),
            _ => return Err(Fault::Broken("it has an unknown instruction")),
        };
        self.push(made)
    }

    /// Bytes, if that is what is made so, else an object.
    fn called(&self, callable: Value, arguments: Value) -> Value {
        let Value::Tuple(node) = arguments else { return Value::Object };
        let arguments = self.nodes.get(node as usize).map_or(&[][..], Vec::as_slice);
        match (callable, arguments) {
            (Value::Maker(Maker::Bytes), []) => Value::Text(Form::Bytes, Span::EMPTY),
            (Value::Maker(Maker::Encode), [Value::Text(form, span), Value::Text(_, name)])
                if name.of(self.input.bytes) == b"latin1" =>
            {
                form.latin1().map_or(Value::Object, |form| Value::Text(form, *span))
            }
            _ => Value::Object,
        }
    }
}

struct Input<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.at).copied().ok_or(CUT_OFF)?;
        self.at += 1;
        Ok(byte)
    }

    /// A little-endian number of so many bytes.
    fn length(&mut self, width: usize) -> Result<u64, Fault> {
        let bytes = self.bytes.get(self.at..self.at + width).ok_or(CUT_OFF)?;
        self.at += width;
        Ok(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Whether so many bytes are still to come.
    fn has(&self, len: u64) -> Result<(), Fault> {
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(Fault::Broken("it claims more than there is"));
        }
        Ok(())
    }

    fn span(&mut self, len: u64) -> Result<Span, Fault> {
        self.has(len)?;
        // No pickle is larger than a u32 counts.
        let span = Span { start: self.at as u32, len: len as u32 };
        self.at += len as usize;
        Ok(span)
    }

    /// Up to the end of the line, and past it.
    fn line(&mut self) -> Result<Span, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT_OFF)?;
        let span = self.span(len as u64)?;
        self.at += 1;
        Ok(span)
    }
}
