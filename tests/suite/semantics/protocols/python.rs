//! Pickles, as Python shows them.

/// What Mezzenger's programs put, and its pickle: protocol 4's opcodes and older ones.
const PAYLOADS: [(&str, &[u8]); 15] = [
    ("'Hello'", b"X\x05\0\0\0Hello"),
    ("b'Hello'", b"C\x05Hello"),
    ("b'\\xff'", b"C\x01\xff"),
    ("'\\ud800'", b"X\x03\0\0\0\xed\xa0\x80"),
    ("''", b"X\0\0\0\0"),
    ("7", b"K\x07"),
    ("12345678901234567890", b"\x8a\x09\xd2\x0a\x1f\xeb\x8c\xa9\x54\xab\0"),
    ("1.5", b"G\x3f\xf8\0\0\0\0\0\0"),
    ("inf", b"G\x7f\xf0\0\0\0\0\0\0"),
    ("True", b"\x88"),
    ("None", b"N"),
    ("(1, 'two')", b"K\x01X\x03\0\0\0two\x86"),
    ("{'a': [1.5]}", b"}X\x01\0\0\0a]G\x3f\xf8\0\0\0\0\0\0as"),
    ("{1: 2}", b"}K\x01K\x02s"),
    ("datetime.date(2026, 1, 2)", b"cdatetime\ndate\nC\x04\x07\xea\x01\x02\x85R"),
];

/// The pickle of a message with this payload, as Mezzenger's client makes it.
pub fn message(topic: &str, payload: &str) -> Vec<u8> {
    let found = PAYLOADS.iter().find(|(shown, _)| *shown == payload);
    let (_, payload) = found.unwrap_or_else(|| panic!("{payload} has no pickle here"));
    let mut pickle = b"\x80\x04}(X\x04\0\0\0nameX".to_vec();
    pickle.extend(u32::try_from(topic.len()).unwrap().to_le_bytes());
    pickle.extend(topic.as_bytes());
    pickle.extend(b"X\x07\0\0\0payload");
    pickle.extend(*payload);
    pickle.extend(b"X\x03\0\0\0ackK\0X\x09\0\0\0timestampG\x41\xdaTIMEooX\x08\0\0\0checksum");
    pickle.extend(b"X\x08\0\0\0identityu.");
    pickle
}

/// A pickle of the server's own, as Python shows it.
pub fn shown(pickle: &[u8]) -> String {
    let mut rest = pickle.strip_prefix(b"\x80\x02").unwrap();
    // The open containers with their values so far; the first is the pickle itself.
    let mut open: Vec<Vec<String>> = vec![vec![]];
    loop {
        let (code, behind) = rest.split_first().unwrap();
        let mut len = 0;
        let value = match code {
            b'}' | b']' => {
                assert_eq!(behind[0], b'(');
                len = 1;
                open.push(vec![]);
                None
            }
            b'u' => {
                let items = open.pop().unwrap();
                let pairs = items.chunks_exact(2).map(|pair| pair.join(": "));
                Some(format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")))
            }
            b'e' => Some(format!("[{}]", open.pop().unwrap().join(", "))),
            b'N' => Some("None".into()),
            b'\x88' => Some("True".into()),
            b'\x89' => Some("False".into()),
            b'J' => {
                len = 4;
                Some(i32::from_le_bytes(behind[..4].try_into().unwrap()).to_string())
            }
            b'G' => {
                len = 8;
                Some(format!("{:?}", f64::from_be_bytes(behind[..8].try_into().unwrap())))
            }
            b'L' => {
                len = behind.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                let digits = str::from_utf8(&behind[..len]).unwrap();
                Some(digits.strip_suffix("L\n").unwrap().to_owned())
            }
            b'X' => {
                let bytes = u32::from_le_bytes(behind[..4].try_into().unwrap());
                len = 4 + usize::try_from(bytes).unwrap();
                Some(shown_text(&behind[4..len]))
            }
            b'.' => {
                assert_eq!((behind, open.len(), open[0].len()), (&b""[..], 1, 1));
                return open.remove(0).remove(0);
            }
            other => panic!("{other:#x} in {pickle:?}"),
        };
        open.last_mut().unwrap().extend(value);
        rest = &behind[len..];
    }
}

/// A text, which may have halves of surrogate pairs.
fn shown_text(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        shown += &chunk.valid().replace('\\', "\\\\");
        shown.extend(chunk.invalid().iter().map(|byte| format!("<{byte:x}>")));
    }
    let shown = shown.replace("<ed><a0><80>", "\\ud800");
    let quote = if shown.contains('\'') { '"' } else { '\'' };
    assert!(!shown.contains(quote) && !shown.contains(char::is_control), "{shown:?}");
    format!("{quote}{shown}{quote}")
}
