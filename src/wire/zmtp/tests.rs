use proptest::prelude::*;

use super::check::zmtp;
use super::frame::{Traffic, ZmtpDecoder};
use super::*;
use crate::limits;

const MAX: usize = 100_000;

/// A peer's greeting as libzmq 3.1 sends it.
fn greeting_of_libzmq() -> Vec<u8> {
    let mut greeting = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x03\x01NULL".to_vec();
    greeting.resize(64, 0);
    greeting
}

fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let body = [&[name.len() as u8], name.as_bytes(), data].concat();
    [&[4, body.len() as u8], &body[..]].concat()
}

fn ready(socket: &str) -> Vec<u8> {
    let socket = [b"\x0bSocket-Type\0\0\0", &[socket.len() as u8][..], socket.as_bytes()].concat();
    command("READY", &[&socket[..], b"\x08Identity\0\0\0\0"].concat())
}

fn message(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, parts.iter().copied());
    out
}

/// A connection after the handshake, with an empty output.
fn linked(socket: &str) -> ZmtpConnection {
    let mut connection = ZmtpConnection::new(MAX);
    let begin = [greeting_of_libzmq(), ready(socket)].concat();
    assert_eq!(connection.advance(&begin), (begin.len(), Ok(None)));
    assert!(connection.peer().is_some());
    connection.written();
    connection
}

fn events(connection: &mut ZmtpConnection, bytes: &[u8]) -> (Vec<Event>, Option<ZmtpError>) {
    let (mut events, mut done) = (Vec::new(), 0);
    loop {
        let (used, event) = connection.advance(&bytes[done..]);
        done += used;
        match event {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, None),
            Err(fault) => return (events, Some(fault)),
        }
    }
}

/// The error for bytes that a peer sends after the handshake.
fn fault(socket: &str, bytes: &[u8]) -> Option<&'static str> {
    events(&mut linked(socket), bytes).1.map(|ZmtpError(text)| text)
}

#[test]
fn handshake_succeeds_for_each_supported_socket() {
    for (socket, own) in
        [("REQ", "REP"), ("DEALER", "ROUTER"), ("SUB", "PUB"), ("XSUB", "PUB"), ("PUSH", "PULL")]
    {
        let mut connection = ZmtpConnection::new(MAX);
        let begin = [greeting_of_libzmq(), ready(socket)].concat();
        assert_eq!(connection.advance(&begin), (begin.len(), Ok(None)), "{socket}");
        let mut expected = greeting().to_vec();
        let property = [b"\x0bSocket-Type\0\0\0", &[own.len() as u8][..], own.as_bytes()].concat();
        expected.extend(command("READY", &property));
        assert_eq!(connection.replies(), expected, "{socket}");
    }
    let mut connection = ZmtpConnection::new(MAX);
    events(&mut connection, &[greeting_of_libzmq(), ready("PUB")].concat());
    assert!(connection.replies().ends_with(&message(&[&[1]])), "it is subscribed to");
}

#[test]
fn unsupported_socket_receives_an_error() {
    for socket in ["PAIR", "ROUTER", "req", ""] {
        let mut connection = ZmtpConnection::new(MAX);
        let (_, fault) = events(&mut connection, &[greeting_of_libzmq(), ready(socket)].concat());
        assert!(fault.is_some(), "{socket}");
        assert_eq!(connection.replies()[64..][..8], *b"\x04\x3a\x05ERROR", "{socket}");
    }
    let mut connection = ZmtpConnection::new(MAX);
    assert!(
        events(&mut connection, &[greeting_of_libzmq(), command("READY", b"")].concat())
            .1
            .is_some()
    );
}

#[test]
fn greeting_may_arrive_in_parts() {
    for len in 0..64 {
        let mut connection = ZmtpConnection::new(MAX);
        assert_eq!(connection.replies(), greeting());
        assert_eq!(connection.advance(&greeting_of_libzmq()[..len]), (0, Ok(None)), "{len}");
    }
}

#[test]
fn older_and_foreign_greetings_are_refused_at_once() {
    let mut version_2 = greeting_of_libzmq();
    version_2[10] = 1;
    let mut curve = greeting_of_libzmq();
    curve[12..17].copy_from_slice(b"CURVE");
    for (what, bytes) in [
        ("a request of HTTP", b"GET / HTTP/1.1\r\n".to_vec()),
        ("ZMTP 1.0 without an identity", b"\x01\x00".to_vec()),
        ("ZMTP 1.0 with a long one", b"\xff\0\0\0\0\0\0\0\x01\x00".to_vec()),
        ("ZMTP 2.0", version_2[..11].to_vec()),
        ("a mechanism", curve[..17].to_vec()),
    ] {
        let (used, came) = ZmtpConnection::new(MAX).advance(&bytes);
        assert!(used == 0 && came.is_err(), "{what}: {came:?}");
    }
    let mut later = greeting_of_libzmq();
    later[10] = 4;
    assert_eq!(ZmtpConnection::new(MAX).advance(&later), (64, Ok(None)));
}

#[test]
fn messages_before_the_handshake_are_refused() {
    for early in [message(&[b""]), message(&[b"o3 x"]), command("PING", b"\0\0"), ready("REQ")] {
        let mut connection = ZmtpConnection::new(MAX);
        let (came, fault) =
            events(&mut connection, &[greeting_of_libzmq(), early.clone()].concat());
        assert_eq!(came, []);
        assert_eq!(fault.is_none(), early == ready("REQ"), "{early:?}");
    }
}

#[test]
fn envelope_ends_at_the_empty_part() {
    for (parts, envelope, asked) in [
        (&[&b""[..], b"o3 x"][..], 1, Some(&b"o3 x"[..])),
        (&[b"o3 x"], 0, Some(b"o3 x")),
        (&[b"id", b"", b"o3", b"x"], 2, None),
        (&[b"o3", b"x"], 0, None),
        (&[b"o3", b""], 2, None),
        (&[b""], 0, Some(b"")),
        (&[b"", b""], 1, Some(b"")),
    ] {
        let (came, fault) = events(&mut linked("DEALER"), &message(parts));
        assert_eq!(fault, None);
        let [Event::Message(message)] = &came[..] else { panic!("{came:?}") };
        assert_eq!(message.parts().collect::<Vec<_>>(), parts);
        assert_eq!((message.envelope(), message.only_part(envelope)), (envelope, asked));
    }
}

#[test]
fn subscriptions_are_messages_or_commands() {
    let bytes = [
        message(&[b"\x01o3"]),
        command("SUBSCRIBE", b"o3 x"),
        message(&[b"\x00o3"]),
        command("CANCEL", b""),
        message(&[b"to whom it may concern"]),
        message(&[b""]),
        command("SOMETHING", b"of a later version"),
    ];
    let (came, fault) = events(&mut linked("SUB"), &bytes.concat());
    let subscribe = |prefix: &[u8]| Event::Subscribe(prefix.to_vec());
    let cancel = |prefix: &[u8]| Event::Cancel(prefix.to_vec());
    let expected = vec![subscribe(b"o3"), subscribe(b"o3 x"), cancel(b"o3"), cancel(b"")];
    assert_eq!((came, fault), (expected, None));
}

#[test]
fn ping_is_answered_with_its_context() {
    for context in [&b""[..], b"sixteen bytes ok"] {
        let mut connection = linked("SUB");
        let ping = command("PING", &[b"\x00\x32", context].concat());
        assert_eq!(events(&mut connection, &ping), (vec![], None));
        assert_eq!(connection.replies(), command("PONG", context));
    }
    for wrong in [&b"\x00"[..], b"\x00\x00seventeen bytes!!"] {
        assert!(fault("SUB", &command("PING", wrong)).is_some());
    }
}

#[test]
fn endless_pings_are_answered_in_bounded_batches() {
    let pings = command("PING", b"\0\0sixteen bytes ok").repeat(10_000);
    let mut connection = linked("SUB");
    let (done, came) = connection.advance(&pings);
    assert!(done < pings.len() && came == Ok(None));
    assert!(connection.replies().len() < limits::REPLY_BYTES + 100);
}

#[test]
fn claimed_lengths_are_refused_or_allocate_nothing() {
    let claim = |flags: u8, length: u64| [&[flags], &length.to_be_bytes()[..]].concat();
    for length in [u64::from(u32::MAX), 1 << 63, u64::MAX, MAX as u64 + 1] {
        for flags in [2, 3, 6] {
            assert_eq!(fault("REQ", &claim(flags, length)), Some("the frame is too large"));
        }
        // A command is refused by the first bytes of its length.
        assert_eq!(fault("SUB", &claim(2, length)), Some("the frame is too large"));
    }
    let mut decoder = ZmtpDecoder::new(MAX);
    assert_eq!(decoder.advance(&[claim(2, MAX as u64), vec![7; 10]].concat()).1, Ok(None));
    assert!(decoder.capacity() < 1_000, "{}", decoder.capacity());
}

#[test]
fn limit_covers_all_parts_of_a_message() {
    let part = vec![7; MAX / 2];
    assert_eq!(fault("REQ", &message(&[&part, &part])), None);
    assert_eq!(fault("REQ", &message(&[&part, &part, b"x"])), Some("the frame is too large"));
    let parts = vec![&b""[..]; limits::ZMTP_PARTS];
    assert_eq!(fault("REQ", &message(&parts)), None);
    let more = [&parts[..], &[b""]].concat();
    assert_eq!(fault("REQ", &message(&more)), Some("the message has too many parts"));
}

#[test]
fn commands_and_prefixes_are_bounded() {
    let long = |len: usize| {
        let body = [b"\x09SOMETHING", &vec![7; len][..]].concat();
        [&[6], &(body.len() as u64).to_be_bytes()[..], &body].concat()
    };
    let most = limits::ZMTP_COMMAND_BYTES - 10;
    assert_eq!(fault("SUB", &long(most)), None);
    assert_eq!(fault("SUB", &long(most + 1)), Some("the frame is too large"));
    let prefix = [&[1], &[b'x'; limits::ZMTP_PREFIX_BYTES][..]].concat();
    assert_eq!(fault("SUB", &message(&[&prefix])), None);
    let longer = [&prefix[..], b"x"].concat();
    assert_eq!(fault("SUB", &message(&[&longer])), Some("the frame is too large"));
}

#[test]
fn invalid_frames_are_refused() {
    for bytes in [&[8u8, 0][..], &[128, 0], &[5, 0], b"GET / HTTP/1.1", &[4, 0], &[4, 1, 9]] {
        assert!(fault("REQ", bytes).is_some(), "{bytes:?}");
    }
}

#[test]
fn frame_lengths_are_written_short_or_long() {
    for len in [0, 1, 255, 256, 70_000] {
        let body = vec![7; len];
        let bytes = message(&[&body]);
        assert_eq!(bytes[0], if len > 255 { 2 } else { 0 });
        let Ok(Some(Traffic::Message(message))) = ZmtpDecoder::new(MAX).advance(&bytes).1 else {
            panic!("{len}");
        };
        assert_eq!(message.parts().collect::<Vec<_>>(), [body]);
    }
}

proptest! {
    #[test]
    fn frames_may_be_split_and_joined_anywhere(
        socket in prop::sample::select(vec!["REQ", "DEALER", "SUB", "PUSH", "PUB"]),
        messages in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            0..5,
        ),
        pings in any::<bool>(),
    ) {
        let mut bytes = [greeting_of_libzmq(), ready(socket)].concat();
        for parts in &messages {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            bytes.extend(message(&parts));
            if pings {
                bytes.extend(command("PING", b"\0\0context"));
            }
        }
        zmtp(&bytes);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        zmtp(&bytes);
        zmtp(&[greeting_of_libzmq(), bytes].concat());
    }
}
