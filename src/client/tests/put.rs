//! Puts over connections that break, or that the server breaks.

use std::sync::mpsc;

use super::*;

#[test]
fn the_refusal_of_a_put_comes_from_the_next_call_with_nothing_else_to_return() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request(), get("a"));
        peer.nothing();
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request(), get("a"));
        peer.message(8, "first");
        assert_eq!(peer.request(), get("a"));
        peer.message(9, "second");
        assert_eq!(peer.request(), put("a", "refused"));
        peer.refuse("bad_topic");
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 7}));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 7}));
    });
    let refused = |error| matches!(error, Error::EarlierPut { code, text } if code == "bad_topic" && text == "do better");
    let mut client = Client::connect(addr).unwrap();
    client.put("a", "refused").unwrap();
    assert!(refused(client.get("a").unwrap_err()));
    client.put("a", "refused").unwrap();
    assert_eq!(text(client.get("a")), "first");
    assert!(refused(client.get("a").unwrap_err()));
    assert_eq!(text(client.get("a")), "second");
    client.put("a", "refused").unwrap();
    assert!(refused(client.ping().unwrap_err()));
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn a_put_finds_that_the_server_has_gone_before_it_is_sent() {
    let (gone, has_gone) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put("a", "first"));
        drop(peer);
        gone.send(()).unwrap();
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), put("a", "second"));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 99}));
        assert_eq!(peer.request()["action"], "ping");
        peer.reply(json!({"ok": true, "since": 99}));
    });
    let mut client = Client::connect(addr).unwrap();
    client.put("a", "first").unwrap();
    has_gone.recv().unwrap();
    thread::sleep(Duration::from_millis(1)); // a connection is looked at when that old
    client.put("a", "second").unwrap();
    // Nothing answered after the first put: nobody knows.
    assert!(matches!(client.ping(), Err(Error::Unconfirmed)));
    client.ping().unwrap();
    server.join().unwrap();
}

#[test]
fn a_put_without_confirmation_is_not_sent_again() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        assert_eq!(peer.request(), put_confirmed("a", "once"));
        peer.say(r#"{"ok":tr"#);
        drop(peer);
        let mut peer = Peer::begin(listener, 99);
        assert_eq!(peer.request(), put_confirmed("a", "twice"));
        peer.stored(100);
    });
    let mut client = Client::connect(addr).unwrap();
    assert!(matches!(client.put_confirmed("a", "once"), Err(Error::Unconfirmed)));
    let receipt = client.put_confirmed("a", "twice").unwrap();
    assert_eq!((receipt.id, receipt.timestamp), (100, 1e-4));
    server.join().unwrap();
}

#[test]
fn a_refused_put_leaves_the_connection_in_step() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        peer.request();
        peer.refuse("too_deep");
        assert_eq!(peer.request(), get("a"));
        peer.nothing();
    });
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put_confirmed("a", "deep").unwrap_err();
    assert_eq!(refused.to_string(), "do better (too_deep)");
    assert_eq!(client.get("a").unwrap(), None);
    server.join().unwrap();
}

#[test]
fn a_confirmed_batch_tells_how_far_it_came() {
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 7);
        for id in [8, 9] {
            peer.request();
            peer.stored(id);
        }
        peer.request();
        peer.refuse("too_deep");
        peer.request();
        peer.stored(10);
        for id in [11, 12] {
            peer.request();
            peer.stored(id);
        }
        peer.request();
        drop(peer);
    });
    let mut client = Client::connect(addr).unwrap();
    let batch = ["a", "b", "c", "d"];
    match client.put_confirmed_batch("t", &batch).unwrap_err() {
        Error::Batch { stored, source } => {
            assert_eq!(
                stored.iter().map(|receipt| receipt.id).collect::<Vec<_>>(),
                [Some(8), Some(9)]
            );
            assert!(matches!(*source, Error::Server { code, .. } if code == "too_deep"));
        }
        error => panic!("{error:?}"),
    }
    let error = client.put_confirmed_batch("t", &batch).unwrap_err();
    assert!(
        matches!(&error, Error::Batch { stored, source }
            if stored.len() == 2 && matches!(**source, Error::Unconfirmed)),
        "{error:?}"
    );
    server.join().unwrap();
}

/// A server that reads nothing while it writes, and the other way round.
#[test]
fn batches_never_fill_both_sockets() {
    const COUNT: usize = 2_000;
    let (addr, server) = play(|listener| {
        let mut peer = Peer::begin(listener, 0);
        for id in 0..COUNT {
            peer.request();
            peer.stored(id as u64 + 1);
        }
        let long = "x".repeat(20_000);
        for id in 0..COUNT {
            peer.request();
            peer.message(id as u64 + 1, &long);
        }
    });
    let mut client = Client::connect(addr).unwrap();
    let receipts = client.put_confirmed_batch("a", &vec!["x".repeat(5_000); COUNT]).unwrap();
    assert_eq!(receipts.len(), COUNT);
    assert_eq!(client.get_batch("a", COUNT).unwrap().len(), COUNT);
    server.join().unwrap();
}

#[test]
fn a_put_that_the_server_hangs_up_on_is_told_why() {
    let (addr, server) = play(|listener| {
        for _ in 0..2 {
            let mut peer = Peer::begin(listener, 0);
            let mut start = [0; 40];
            std::io::Read::read_exact(&mut peer.reader, &mut start).unwrap();
            let start = String::from_utf8(start.to_vec()).unwrap();
            peer.tag =
                if start.contains("\"put\",\"tag\":\"put\"") { json!("put") } else { json!(1) };
            peer.refuse("message_too_large");
            peer.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
            // Reads on, as a server must that wants to be heard, but not to the end.
            std::io::Read::read_exact(&mut peer.reader, &mut vec![0; 1_000_000]).unwrap();
        }
    });
    let large = "x".repeat(50_000_000);
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put("a", &large).unwrap_err();
    assert!(matches!(refused, Error::EarlierPut { code, .. } if code == "message_too_large"));
    let mut client = Client::connect(addr).unwrap();
    let refused = client.put_confirmed("a", &large).unwrap_err();
    assert!(matches!(refused, Error::Server { code, .. } if code == "message_too_large"));
    server.join().unwrap();
}
