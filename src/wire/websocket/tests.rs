//! WebSocket frames: whole, split anywhere, and invalid.

use proptest::prelude::*;

use super::*;

const MAX: usize = 100_000;
const MASK: [u8; 4] = [0x12, 0xff, 0x00, 0x80];

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Text, payload);
    let header = frame.len() - payload.len();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.truncate(header);
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Decodes all of the bytes; returns the messages, and the code if decoding failed.
fn decode(
    decoder: &mut WebSocketDecoder,
    mut bytes: &[u8],
) -> (Vec<WebSocketMessage>, Option<CloseCode>) {
    let mut all = Vec::new();
    loop {
        let (done, came) = decoder.advance(bytes);
        bytes = &bytes[done..];
        match came {
            Ok(Some(received)) => all.push(received),
            Ok(None) => return (all, None),
            Err(code) => return (all, Some(code)),
        }
    }
}

fn refused(bytes: &[u8]) -> Option<CloseCode> {
    decode(&mut WebSocketDecoder::new(MAX), bytes).1
}

#[test]
fn frames_of_every_length_are_decoded() {
    for len in [0, 1, 2, 3, 4, 5, 125, 126, 127, 65_535, 65_536, MAX] {
        let text = "é".repeat(len / 2) + &"x".repeat(len % 2);
        let mut decoder = WebSocketDecoder::new(MAX);
        let came = decode(&mut decoder, &masked(0x81, text.as_bytes()));
        assert_eq!(came, (vec![WebSocketMessage::Text(text)], None), "{len}");
    }
    assert_eq!(refused(&masked(0x82, &vec![0; MAX + 1])), Some(CloseCode::TOO_LARGE));
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let bytes = [
        masked(0x01, b"a\xc3"),
        masked(0x89, b"ping"),
        masked(0x00, b""),
        masked(0x8a, b"pong"),
        masked(0x80, b"\xa9"),
        masked(0x88, b"\x03\xe8bye"),
    ];
    let came = decode(&mut WebSocketDecoder::new(MAX), &bytes.concat());
    let expected = vec![
        WebSocketMessage::Ping(b"ping".to_vec()),
        WebSocketMessage::Text("aé".to_owned()),
        WebSocketMessage::Close(CloseCode(1000)),
    ];
    assert_eq!(came, (expected, None));
}

#[test]
fn violations_have_their_close_code() {
    let protocol = Some(CloseCode::PROTOCOL);
    for (what, bytes) in [
        ("a text frame without a mask", vec![0x81, 0x01, b'x']),
        ("reserved bits", masked(0xc1, b"x")),
        ("a reserved kind of message", masked(0x83, b"x")),
        ("a reserved kind of control", masked(0x8b, b"x")),
        ("a control frame in parts", masked(0x09, b"x")),
        ("a large control frame", masked(0x89, &[b'x'; 126])),
        ("a part of nothing", masked(0x80, b"x")),
        ("a message within another", [masked(0x01, b"x"), masked(0x81, b"x")].concat()),
        ("half a close code", masked(0x88, b"\x03")),
        ("a close code that nobody sends", masked(0x88, b"\x03\xed")),
        ("no close code", masked(0x88, b"\x00\x00")),
    ] {
        assert_eq!(refused(&bytes), protocol, "{what}");
    }
    assert_eq!(refused(&masked(0x81, b"\xff")), Some(CloseCode::INVALID));
    assert_eq!(refused(&masked(0x88, b"\x03\xe8\xff")), Some(CloseCode::INVALID));
    assert_eq!(refused(&masked(0x88, b"")), None);
}

#[test]
fn oversized_claim_is_refused_before_its_payload() {
    let claim = |length: u64| [&[0x82, 0xff], &length.to_be_bytes()[..]].concat();
    for length in [1 << 63, u64::MAX, MAX as u64 + 1] {
        assert_eq!(refused(&claim(length)), Some(CloseCode::TOO_LARGE), "{length}");
    }
    let mut decoder = WebSocketDecoder::new(MAX);
    let header = [claim(MAX as u64), MASK.to_vec(), vec![0; 10]].concat();
    assert_eq!(decode(&mut decoder, &header), (vec![], None));
    assert!(decoder.message.capacity() < 1_000, "{}", decoder.message.capacity());
}

#[test]
fn endless_fragments_reach_the_limit() {
    let mut decoder = WebSocketDecoder::new(MAX);
    assert_eq!(decode(&mut decoder, &masked(0x01, b"")), (vec![], None));
    let part = masked(0x00, &[b'x'; 1_000]);
    let parts = (0..).take_while(|_| decode(&mut decoder, &part).1.is_none()).count();
    assert_eq!(parts, MAX / 1_000);
    assert_eq!(
        decode(&mut WebSocketDecoder::new(MAX), &masked(0x00, b"").repeat(3)).1,
        Some(CloseCode::PROTOCOL)
    );
}

proptest! {
    #[test]
    fn frames_may_be_split_anywhere(
        texts in prop::collection::vec("\\PC{0,200}", 1..5),
        size in 1usize..50,
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| masked(0x81, text.as_bytes())).collect();
        let mut decoder = WebSocketDecoder::new(MAX);
        let (mut unread, mut all) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            unread.extend_from_slice(piece);
            loop {
                let (done, came) = decoder.advance(&unread);
                unread.drain(..done);
                match came.unwrap() {
                    Some(received) => all.push(received),
                    None => break,
                }
            }
        }
        let expected: Vec<_> = texts.into_iter().map(WebSocketMessage::Text).collect();
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (all, _) = decode(&mut WebSocketDecoder::new(100), &bytes);
        prop_assert!(all.len() <= bytes.len());
    }
}

#[test]
fn key_of_the_rfc_has_its_answer() {
    let answer = accept("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(answer.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn unused_bits_of_a_key_are_ignored() {
    assert!(accept("dGhlIHNhbXBsZSBub25jZR==").is_some());
}

#[test]
fn invalid_keys_have_no_answer() {
    for wrong in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZT0=",
        "dGhlIHNhbXBsZSBub24=",
    ] {
        assert_eq!(accept(wrong), None, "{wrong}");
    }
}
