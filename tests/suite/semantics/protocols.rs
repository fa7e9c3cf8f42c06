//! docs/reference/translation.md, cell by cell: what each protocol puts is read in every other. So is the frozen
//! copy of it, by the same tests.

mod document;
mod python;
mod readers;
mod topics;
mod writers;

use dsmq::{Config, CoreMqPort, Server};
use serde_json::json;

pub use self::document::Document;
use self::document::quoted;
use self::readers::{Readers, TOPIC, shown, zmtp};
use self::topics::{END, listener};
use self::writers::{Put, Writers, refused};
use crate::suite::compat::coremq_frames;
use crate::suite::compat::o3one::{address_of, subscriber};
use crate::suite::support::peer::{Peer, masked};
use crate::suite::support::server_with;
use crate::suite::web::{http, http_events};

const DOCUMENT: Document =
    Document(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/translation.md")));

const WRITERS: [&str; 6] = ["JSON", "HTTP", "RestMQ", "CoreMQ", "O3one", "Mezzenger"];

const TAKERS: [&str; 3] = ["RestMQ, `GET /q/o3`", "RestMQ, XML-RPC's `get`", "RestMQ, a consumer"];

const PUT: &str = "| put | JSON, HTTP, RestMQ | CoreMQ | CoreMQ at `/ws` | O3one | Mezzenger |";

/// All six protocols.
fn server() -> Server {
    server_with(Config {
        coremq: Some(CoreMqPort::Port(0)),
        o3one: Some([0, 0, 0].into()),
        mezzenger: Some([0, 0]),
        ..Config::default()
    })
}

/// One who reads: its name, and what a message looks like to it, with M for what its column has.
struct Reader {
    name: String,
    template: String,
    column: usize,
}

fn readers(document: Document) -> Vec<Reader> {
    let columns = PUT.split('|').map(str::trim).skip(1);
    let columns: Vec<_> = columns.collect();
    let first =
        document.either("| reader | receives | column |", "| who reads | what comes | column |");
    let rows = document.table("## How a message arrives", first);
    let reader = |row: Vec<String>| Reader {
        template: quoted(&row[1]).0.to_owned(),
        column: columns.iter().position(|column| *column == row[2]).unwrap(),
        name: row[0].clone(),
    };
    rows.into_iter().map(reader).collect()
}

/// What this reader is to read of a message.
fn expected(reader: &Reader, row: &[String], put: &Put) -> String {
    let (json, python) = &put.left_out;
    let left_out = if reader.name == "Mezzenger" { python } else { json };
    let cell = quoted(&row[reader.column]).0.replace('…', left_out);
    reader.template.replacen('M', &cell, 1)
}

/// Puts a line of the document as often as there are ways to take it, and reads it in every other.
fn check(
    all: &[Reader],
    (by, how): (&str, &str),
    row: &[String],
    writers: &mut Writers,
    readers: &mut Readers,
) {
    let (takers, others): (Vec<_>, Vec<_>) =
        all.iter().partition(|reader| TAKERS.contains(&&*reader.name));
    assert_eq!(takers.len(), TAKERS.len());
    for taker in takers {
        let put = writers.put(by, how, TOPIC, quoted(&row[0]).0);
        // A taken message is gone for all other readers.
        let in_order = others.iter().chain([&taker]);
        compare(by, how, row, &put, in_order.copied(), readers);
    }
}

fn compare<'a>(
    by: &str,
    how: &str,
    row: &[String],
    put: &Put,
    named: impl Iterator<Item = &'a Reader>,
    readers: &mut Readers,
) {
    for reader in named {
        let read = readers.read(&reader.name);
        if let (Some(frame), "Mezzenger") = (&put.frame, &*reader.name) {
            assert_eq!(&read, frame, "{by} put {}", row[0]);
            assert_eq!(row[reader.column], row[0]);
            continue;
        }
        let (read, expected) = (shown(&reader.name, &read), expected(reader, row, put));
        assert_eq!(masked(&read), masked(&expected), "{}: {by} put {} {how}", reader.name, row[0]);
    }
}

/// Puts every line of the document's tables and reads it in every way.
pub fn check_puts(document: Document) {
    assert_eq!(document.headings(document.either("## Puts", "## What is put")), WRITERS);
    let all = self::readers(document);
    let server = server();
    let (mut writers, mut readers) = (Writers::connect(&server), Readers::connect(&server));
    for by in WRITERS {
        for row in document.table(&format!("### {by}"), PUT) {
            let how = quoted(&row[0]).1;
            check(&all, (by, how), &row, &mut writers, &mut readers);
            if by == "JSON" {
                check(&all, (by, "in a WebSocket"), &row, &mut writers, &mut readers);
            }
        }
    }
}

/// Puts what the document says is no message.
pub fn check_refusals(document: Document) {
    let server = server();
    let rows = document.table(
        document.either("## Refused puts", "## What is no message"),
        "| by | put | answer |",
    );
    assert!(WRITERS.iter().all(|by| rows.iter().any(|row| row[0] == *by)), "{rows:?}");
    for row in rows {
        let (put, how) = quoted(&row[1]);
        let bytes = put.split("\\xc3").map(str::as_bytes).collect::<Vec<_>>().join(&b"\xc3"[..]);
        let (mut peer, answer) = refused(&server, &row[0], how, &bytes);
        let (expected, then) = quoted(&row[2]);
        assert!(answer.contains(expected), "{row:?}: {answer}");
        if then == ", and the connection is closed" {
            peer.expect_end();
        } else {
            assert_eq!(then, "");
        }
    }
    let mut json = Peer::connect(server.addr());
    json.ask(r#"{"action":"history","topic":"o3"}"#, r#"{"messages":[]}"#);
}

/// What a protocol puts to see whether a topic has its name.
fn something(by: &str) -> (&str, &str, &str) {
    match by {
        "CoreMQ" => (by, "", "{\"a\":1}"),
        "CoreMQ at `/ws`" => ("CoreMQ", "at /ws", "{\"a\":1}"),
        _ => (by, "", "7"),
    }
}

/// Puts and reads topics of every name of the document.
pub fn check_topics(document: Document) {
    let columns = ["JSON", "HTTP", "RestMQ", "CoreMQ", "CoreMQ at `/ws`", "O3one", "Mezzenger"];
    let server = server();
    let (mut json, mut writers) = (Peer::connect(server.addr()), Writers::connect(&server));
    let mut ask = |request: &str, topic: &str| {
        json.send(request.replace("TOPIC", topic));
        json.receive_text()
    };
    for row in document.table("## Topics", &format!("| topic | {} |", columns.join(" | "))) {
        let topic = quoted(&row[0]).0;
        let listeners = columns.map(|who| listener(who, &server, topic));
        for (topic, message) in [(topic, "[1]"), (END, "[2]")] {
            writers.put("JSON", "", topic, message);
        }
        let reads = listeners.map(|heard| heard());
        let puts = columns.map(|who| {
            ask(r#"{"action":"purge","topic":"TOPIC"}"#, topic);
            let (by, how, what) = something(who);
            writers.put(by, how, topic, what);
            ask(r#"{"action":"history","topic":"TOPIC"}"#, topic) != r#"{"messages":[]}"#
        });
        let said = std::iter::zip(puts, reads).map(|said| match said {
            (true, true) => "puts, reads",
            (true, false) => "puts",
            (false, true) => "reads",
            (false, false) => "neither",
        });
        assert_eq!(said.collect::<Vec<_>>(), row[1..], "{columns:?} with {topic}");
    }
}

#[test]
fn what_each_puts_every_other_reads_as_the_document_says() {
    check_puts(DOCUMENT);
}

#[test]
fn what_is_no_message_is_refused_as_the_document_says() {
    check_refusals(DOCUMENT);
}

#[test]
fn who_can_name_a_topic_puts_and_reads_it_as_the_document_says() {
    check_topics(DOCUMENT);
}

#[test]
fn what_becomes_of_names_that_a_protocol_cannot_say() {
    let server = server();
    let mut writers = Writers::connect(&server);
    let mut json = Peer::connect(server.addr());
    let mut get = |topic: &str| {
        json.send(format!(r#"{{"action":"get","topic":"{topic}"}}"#));
        json.receive_text()
    };
    let refused = |put: Put| assert!(put.answer.starts_with("ERROR: "), "{put:?}");

    refused(writers.put("CoreMQ", "", "a b", "{}"));
    writers.put("JSON", "", "a b", "[1]");
    let mut coremq = coremq_frames::Client::connect(coremq_frames::address(&server));
    let history = coremq.ask(json!({ "coremq_gethistory": ["a b"] }));
    assert_eq!(history, json!({ "history": { "a b": [[1]] } }));

    let mut o3one = subscriber(address_of(&server, "o3one pub"), "");
    assert_eq!(writers.put("O3one", "", "a b", "Hello").answer, "OK");
    assert_eq!(get("a"), r#"{"message":"b Hello"}"#);
    writers.put("JSON", "", "a b", r#""Hello""#);
    assert_eq!([zmtp(&mut o3one), zmtp(&mut o3one)], [b"a b Hello", b"a b Hello"]);

    refused(writers.put("Mezzenger", "", "a|b", "7"));
    refused(writers.put("Mezzenger", "", "mezzenger.unacked", "7"));
    for topic in ["ping", "ack"] {
        assert_eq!(writers.put("Mezzenger", "", topic, "'Hello'").answer, "OK");
        assert_eq!(get(topic), r#"{"message":""}"#);
    }

    let mut events = http_events::Reader::open(server.addr(), &http::get("/t/?topic=."));
    assert!(events.block().is_some_and(|block| block.starts_with("id: ")));
    writers.put("JSON", "", ".", "[1]");
    assert!(events.block().is_some_and(|block| block.starts_with("event: .\n")));
    let taken = http::ask(&mut Peer::connect_silent(server.addr()), http::get("/?queue=."));
    assert!(taken.body.starts_with(r#"{"value": [1], "key": ".:"#), "{taken:?}");
}
