//! The load generator must not take a wrong reply for the right one, however it arrives.

use std::net::TcpListener;

use super::*;

fn plan(reply: Reply, pipeline: u32) -> Plan {
    let work = Work { request: b"?".to_vec(), reply, laps: None };
    Plan::new(&work, Pattern::new(pipeline, Amount::Requests(1)))
}

/// Whether `replies` complete a round when they arrive in two pieces, split at `at`.
fn is_whole(plan: &Plan, replies: &[u8], at: usize) -> io::Result<bool> {
    let mut seen = Seen::default();
    let (first, second) = replies.split_at(at);
    let early = !first.is_empty() && plan.expected.is_whole_after(&mut seen, first)?;
    if second.is_empty() {
        return Ok(early);
    }
    assert!(!early, "complete after {at} bytes");
    plan.expected.is_whole_after(&mut seen, second)
}

fn same() -> Reply {
    Reply::Is(br#"{"message":"x"}"#.to_vec())
}

fn numbered() -> Reply {
    Reply::between(br#"{"ok":true"#, b'}')
}

#[test]
fn replies_are_whole_at_every_split() {
    let messages = br#"{"message":"x"}{"message":"x"}{"message":"x"}"#;
    let confirmations = br#"{"ok":true,"id":1}{"ok":true,"id":22}{"ok":true}"#;
    for (reply, bytes) in [(same(), &messages[..]), (numbered(), &confirmations[..])] {
        let plan = plan(reply, 3);
        for at in 0..=bytes.len() {
            assert!(is_whole(&plan, bytes, at).unwrap());
        }
        assert!(!is_whole(&plan, &bytes[..bytes.len() - 1], 0).unwrap());
    }
}

#[test]
fn ids_are_found_at_every_split() {
    let parts = vec![Part::Exactly(b"id ".to_vec()), Part::Id(b','), Part::Until(b'.')];
    let plan = plan(Reply::Parts(parts), 2);
    let bytes = b"id 12,x.id 3,.";
    for at in 0..bytes.len() {
        let mut seen = Seen::default();
        assert!(!plan.expected.is_whole_after(&mut seen, &bytes[..at]).unwrap());
        assert!(plan.expected.is_whole_after(&mut seen, &bytes[at..]).unwrap());
        assert_eq!(seen.ids, b"12\n3\n");
    }
}

#[test]
fn a_step_names_the_ids_of_the_step_before() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = || {
        let (mut stream, _) = listener.accept().unwrap();
        for (asked, answer) in
            [("??", "1;22;"), ("<1><22>", "kk"), ("??", "3;4;"), ("<3><4>", "kk")]
        {
            let mut request = vec![0; asked.len()];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, asked.as_bytes());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    };
    let take =
        Step { request: Request::Same(b"?".to_vec()), reply: Reply::Parts(vec![Part::Id(b';')]) };
    let naming = Request::Naming { begin: b"<".to_vec(), end: b">".to_vec() };
    let ack = Step { request: naming, reply: Reply::Is(b"k".to_vec()) };
    thread::scope(|scope| {
        scope.spawn(server);
        let streams = [connect("127.0.0.1", port).unwrap()];
        let done = cycles(&streams, &[take, ack], 2, 4, &AtomicU64::new(0)).unwrap();
        assert_eq!((done.requests, done.latency.len()), (4, 2));
    });
}

#[test]
fn a_wrong_reply_is_an_error_at_every_split() {
    let empty = br#"{"message":"x"}{"message":""}"#;
    let error = br#"{"ok":true,"id":1}{"error":"no"}"#;
    let more = br#"{"ok":true}{"ok":true}{"ok":true}"#;
    for (reply, bytes) in [(same(), &empty[..]), (numbered(), error), (numbered(), more)] {
        let plan = plan(reply, 2);
        for at in 0..11 {
            assert!(is_whole(&plan, bytes, at).is_err());
        }
    }
}

#[test]
fn a_lap_begins_with_its_own_request() {
    let laps = Some(Laps { length: 5, first: vec![b"A".to_vec(), b"B".to_vec()] });
    let work = Work { request: b".".to_vec(), reply: same(), laps };
    let plan = Plan::new(&work, Pattern::new(2, Amount::Requests(1)));
    let sent: Vec<_> = (0..6).map(|round| plan.bytes(round)).collect();
    assert_eq!(sent, [b"A.", b"..", b"B.", b"..", b"A.", b".."]);
}

#[test]
fn every_request_is_counted_and_a_server_that_goes_away_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = |requests: usize| {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..requests {
            let mut request = [0];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
        }
    };
    let work = Work { request: b"?".to_vec(), reply: Reply::Is(b"?".to_vec()), laps: None };
    let pattern = Pattern::new(3, Amount::Requests(10));
    let (full, short) = thread::scope(|scope| {
        scope.spawn(|| (echo(12), echo(6)));
        let run = || {
            let streams = [connect("127.0.0.1", port).unwrap()];
            rounds(&streams, &work, pattern, &AtomicU64::new(0))
        };
        (run().unwrap(), run().unwrap_err())
    });
    assert_eq!((full.requests, full.latency.len()), (12, 4));
    assert!(full.rate() > 0.0);
    assert!(["closed", "reset"].iter().any(|word| short.to_string().contains(word)), "{short}");
}
