//! Decodes text, bytes and integers in the forms of all protocols.

use std::borrow::Cow;

use super::{ByteSpan, PickleError, PickleValue, Result};
use crate::limits;

/// How a text or bytes are encoded in the pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// UTF-8 in which Python also encodes halves of surrogate pairs.
    Utf8,
    /// Latin-1 with the escapes \u and \U.
    Escaped,
    /// Raw bytes.
    Bytes,
    /// Bytes as a quoted literal of Python 2.
    Quoted,
    /// Bytes as text with one character for each byte, where the text is in UTF-8 or escaped.
    Latin1OfUtf8,
    Latin1OfEscaped,
}

impl TextForm {
    pub fn is_text(self) -> bool {
        matches!(self, TextForm::Utf8 | TextForm::Escaped)
    }

    /// The form of the bytes that this text encodes in Latin-1.
    pub fn latin1(self) -> Option<TextForm> {
        match self {
            TextForm::Utf8 => Some(TextForm::Latin1OfUtf8),
            TextForm::Escaped => Some(TextForm::Latin1OfEscaped),
            _ => None,
        }
    }
}

/// Decodes bytes, or text to UTF-8 with halves of surrogate pairs as Python encodes them. `None` if
/// the encoding is invalid.
pub fn decode(form: TextForm, raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    match form {
        TextForm::Utf8 | TextForm::Bytes => Some(raw.into()),
        TextForm::Escaped => unescape(raw).map(Cow::from),
        TextForm::Quoted => unquote(raw).map(Cow::from),
        TextForm::Latin1OfUtf8 => latin1(raw).map(Cow::from),
        TextForm::Latin1OfEscaped => latin1(&unescape(raw)?).map(Cow::from),
    }
}

fn unescape(raw: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let digits = match (byte, behind.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                push(&mut text, u32::from(byte))?;
                continue;
            }
        };
        push(&mut text, hex(behind.get(1..=digits)?)?)?;
        rest = behind.get(1 + digits..)?;
    }
    Some(text)
}

/// Appends a character; half a surrogate pair as the three bytes that UTF-8 would give it.
fn push(text: &mut Vec<u8>, code: u32) -> Option<()> {
    if let 0xD800..=0xDFFF = code {
        let low = |shift: u32| 0x80 | ((code >> shift) & 0x3F) as u8;
        text.extend([0xED, low(6), low(0)]);
        return Some(());
    }
    let character = char::from_u32(code)?;
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some((code << 4) | char::from(*digit).to_digit(16)?))
}

fn unquote(raw: &[u8]) -> Option<Vec<u8>> {
    let (quote, inside) = raw.trim_ascii_end().split_first()?;
    let (last, mut rest) = inside.split_last()?;
    if quote != last || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, behind) = rest.split_first()?;
        rest = behind;
        bytes.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let code = hex(rest.get(..2)?)?;
                rest = rest.get(2..)?;
                code as u8
            }
            b'\\' | b'\'' | b'"' => escape,
            _ => return None,
        });
    }
    Some(bytes)
}

fn latin1(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

/// Reads decimal digits, which Python 2 may end with an L. `start` is their position in the pickle.
pub fn decimal(line: &[u8], start: u32) -> Result<PickleValue> {
    let number = line.strip_suffix(b"L").unwrap_or(line);
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(PickleError::Broken("an integer is invalid"));
    }
    if digits.len() > limits::PICKLE_INTEGER_DIGITS {
        return Err(PickleError::HugeInteger);
    }
    if let Some(small) = str::from_utf8(number).ok().and_then(|text| text.parse().ok()) {
        return Ok(PickleValue::Int(small));
    }
    if digits.first() == Some(&b'0') {
        return Err(PickleError::Broken("an integer begins with a zero"));
    }
    Ok(PickleValue::Digits(ByteSpan { start, len: number.len() as u32 }))
}

/// Reads a little-endian two's complement.
pub fn long(bytes: &[u8], span: ByteSpan) -> Result<PickleValue> {
    if bytes.len() > limits::PICKLE_INTEGER_BYTES {
        return Err(PickleError::HugeInteger);
    }
    if bytes.len() > 8 {
        return Ok(PickleValue::Long(span));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut eight = if negative { [0xFF; 8] } else { [0; 8] };
    eight.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(PickleValue::Int(i64::from_le_bytes(eight)))
}

/// Formats a little-endian two's complement in decimal.
pub fn digits(bytes: &[u8]) -> String {
    const BASE: u64 = 1_000_000_000;
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xFF } else { 0 };
    let mut limbs: Vec<u32> = Vec::with_capacity(bytes.len() / 4 + 1);
    for four in bytes.chunks(4) {
        let mut limb = [fill; 4];
        limb.iter_mut().zip(four).for_each(|(to, from)| *to = *from);
        limbs.push(u32::from_le_bytes(limb));
    }
    if negative {
        let mut carry = true;
        for limb in &mut limbs {
            (*limb, carry) = (!*limb).overflowing_add(u32::from(carry));
        }
        if carry {
            limbs.push(1);
        }
    }
    let mut groups = Vec::new();
    while limbs.pop_if(|top| *top == 0).is_some() {}
    while !limbs.is_empty() {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let part = (rest << 32) | u64::from(*limb);
            (*limb, rest) = ((part / BASE) as u32, part % BASE);
        }
        groups.push(rest);
        while limbs.pop_if(|top| *top == 0).is_some() {}
    }
    let mut text = String::from(if negative { "-" } else { "" });
    text.push_str(&groups.pop().unwrap_or(0).to_string());
    groups.iter().rev().for_each(|group| text.push_str(&format!("{group:09}")));
    text
}
