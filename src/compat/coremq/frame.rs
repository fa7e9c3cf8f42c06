//! CoreMQ's frames, `+LENGTH QUEUE JSON`. The length counts the characters after its space. It
//! equals the number of bytes unless the queue's name is not ASCII, because JSON is written in
//! ASCII.

use std::borrow::Cow;
use std::fmt::Write;

use crate::error::{Code, Error, Result};

/// `+`, up to 8 digits and a space: clients read this many bytes first.
const HEADER_BYTES: usize = 10;

/// The largest length that 8 digits can give.
const LENGTH_MAX: usize = 99_999_999;

/// Finds the frames in a stream, however it is split. Looks at each byte once.
pub struct FrameDecoder {
    max_bytes: usize,
    /// The frame that has begun.
    text: Option<TextProgress>,
}

/// How much of a frame's text has been counted.
struct TextProgress {
    start: usize,
    end: usize,
    chars_left: usize,
}

impl FrameDecoder {
    /// `max_bytes` limits the text of a frame.
    pub fn new(max_bytes: usize) -> FrameDecoder {
        FrameDecoder { max_bytes, text: None }
    }

    /// Returns the text of the first frame and the length of that frame in `unread`; `None` if the
    /// frame is incomplete. After `None`, `unread` must begin with the same bytes in the next call.
    ///
    /// # Errors
    ///
    /// The stream does not hold a frame here, or the frame is too large. Decoding cannot continue.
    pub fn decode<'a>(&mut self, unread: &'a [u8]) -> Result<Option<(&'a str, usize)>> {
        let text = match &mut self.text {
            Some(text) => text,
            None => match header(unread)? {
                None => return Ok(None),
                Some((_, chars)) if chars > self.max_bytes => return Err(self.too_large()),
                Some((start, chars_left)) => {
                    self.text.insert(TextProgress { start, end: start, chars_left })
                }
            },
        };
        while text.chars_left > 0
            && let Some(first) = unread.get(text.end)
        {
            text.end += width(*first);
            text.chars_left -= 1;
        }
        let TextProgress { start, end, chars_left } = *text;
        if end - start > self.max_bytes {
            return Err(self.too_large());
        }
        let Some(bytes) = unread.get(start..end).filter(|_| chars_left == 0) else {
            return Ok(None);
        };
        self.text = None;
        let text = str::from_utf8(bytes)
            .map_err(|_| Error::new(Code::BadUtf8, "the frame is no UTF-8"))?;
        Ok(Some((text, end)))
    }

    fn too_large(&self) -> Error {
        let text = format!("the frame is too large: it may have {} bytes", self.max_bytes);
        Error::new(Code::MessageTooLarge, text)
    }
}

/// The position of the text and its number of characters; `None` if the header is incomplete.
fn header(unread: &[u8]) -> Result<Option<(usize, usize)>> {
    let head = unread.get(..HEADER_BYTES).unwrap_or(unread);
    let (sign, rest) = match head.split_first() {
        None => return Ok(None),
        Some(parts) => parts,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, behind) = rest.split_at_checked(digits).unwrap_or_default();
    let number = str::from_utf8(number).unwrap_or_default();
    match (sign, behind.first()) {
        (b'+', None) if head.len() < HEADER_BYTES => Ok(None),
        (b'+', Some(b' ')) if digits > 0 => {
            let length = number.parse().map_err(|_| no_frame())?;
            Ok(Some((digits + 2, length)))
        }
        _ => Err(no_frame()),
    }
}

fn no_frame() -> Error {
    Error::new(Code::BadField, "this is no frame: +LENGTH QUEUE JSON, as +9 q {\"a\":1}")
}

/// The number of bytes of a character with this first byte. An invalid first byte counts as one
/// character; the complete frame is then refused as invalid UTF-8.
fn width(first: u8) -> usize {
    match first {
        0xF0..=0xFF => 4,
        0xE0..=0xEF => 3,
        0xC0..=0xDF => 2,
        _ => 1,
    }
}

/// Splits a frame's text into queue and JSON.
pub fn parts(text: &str) -> Result<(&str, &str)> {
    let parts = text.split_once(' ').filter(|(queue, _)| !queue.is_empty());
    parts.ok_or_else(|| Error::new(Code::BadField, "a frame has a queue, a space and an object"))
}

/// Whether a frame can hold this queue's name.
pub fn can_name(queue: &str) -> bool {
    !queue.is_empty() && !queue.contains(' ')
}

/// Appends a frame; returns false if the text is too long for a header.
pub fn write(out: &mut Vec<u8>, queue: &str, json: &str) -> bool {
    let json = ascii(json);
    let chars = queue.chars().count() + 1 + json.len();
    if chars > LENGTH_MAX {
        return false;
    }
    let head = format!("+{chars} {queue} ");
    out.reserve(head.len() + json.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(json.as_bytes());
    true
}

/// Replaces characters beyond ASCII with JSON escapes. In valid JSON they occur only inside
/// strings.
fn ascii(json: &str) -> Cow<'_, str> {
    if json.is_ascii() {
        return json.into();
    }
    let mut ascii = String::with_capacity(2 * json.len());
    for char in json.chars() {
        if char.is_ascii() {
            ascii.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` cannot fail.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    ascii.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compat::coremq::check;

    /// Decodes a stream of which `cut` bytes arrive at once and the rest byte by byte.
    fn decode(stream: &[u8], cut: usize) -> (Vec<String>, Result<usize>) {
        check::decode(stream, cut.min(stream.len()))
    }

    fn frame(queue: &str, json: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        assert!(write(&mut frame, queue, json));
        frame
    }

    #[test]
    fn length_counts_characters() {
        assert_eq!(frame("q", "{}"), b"+4 q {}");
        assert_eq!(frame("é😀", "{}"), "+5 é😀 {}".as_bytes());
        let escaped = frame("q", r#"{"é":"😀"}"#);
        assert_eq!(escaped, br#"+27 q {"\u00e9":"\ud83d\ude00"}"#.as_slice());
        // Other writers may send JSON that is not ASCII.
        let stream = "+6 q \"é😀\"+4 q {}+4 q ".as_bytes();
        for cut in 0..=stream.len() {
            let (frames, left) = decode(stream, cut);
            assert_eq!((frames, left), (vec!["q \"é😀\"".into(), "q {}".into()], Ok(5)));
        }
    }

    #[test]
    fn invalid_frames_are_refused_at_once() {
        for wrong in ["-", "x", "{", "+x", "+ ", "+ 1 ", "+-1 ", "+1,", "++", "+123456789", "\0"] {
            assert_eq!(decode(wrong.as_bytes(), 0), (vec![], Err(no_frame())), "{wrong:?}");
        }
        for large in ["+1001 ", "+99999999 "] {
            let (_, end) = decode(large.as_bytes(), 0);
            assert_eq!(end.unwrap_err().code, Code::MessageTooLarge, "{large:?}");
        }
        for begun in ["", "+", "+1", "+0001", "+1000 ", "+9 q {}"] {
            assert!(decode(begun.as_bytes(), 0).1.is_ok(), "{begun:?}");
        }
        // Fewer characters than the limit in bytes, but four bytes each.
        let (_, end) = decode(format!("+900 {}", "😀".repeat(251)).as_bytes(), 0);
        assert_eq!(end.unwrap_err().code, Code::MessageTooLarge);
        for broken in [&b"+3 q \xff}}}"[..], b"+1 \xff\xff\xff\xff", b"+2 \xc3\xc3\xa9"] {
            assert_eq!(decode(broken, 0).1.unwrap_err().code, Code::BadUtf8, "{broken:?}");
        }
    }

    #[test]
    fn frame_has_a_queue_and_an_object() {
        assert_eq!(parts("q {} {}"), Ok(("q", "{} {}")));
        for wrong in ["", " ", " {}", "q", "q{}"] {
            assert!(parts(wrong).is_err(), "{wrong:?}");
        }
        assert!(can_name("q") && can_name("é") && !can_name("") && !can_name("a b"));
    }

    proptest! {
        #[test]
        fn frames_come_back_wherever_they_are_cut(
            sent in prop::collection::vec(("[^ \0]{1,20}", ".{0,40}"), 0..5),
            cut in 0_usize..50,
        ) {
            let json = |text: &str| serde_json::Value::from(text).to_string();
            let stream: Vec<u8> =
                sent.iter().flat_map(|(queue, text)| frame(queue, &json(text))).collect();
            let (frames, left) = decode(&stream, cut);
            prop_assert_eq!(left, Ok(0));
            let parsed = frames.iter().map(|frame| {
                let (queue, json) = parts(frame).unwrap();
                assert!(json.is_ascii());
                (queue.to_owned(), serde_json::from_str(json).unwrap())
            });
            prop_assert_eq!(parsed.collect::<Vec<(String, String)>>(), sent);
        }
    }
}
