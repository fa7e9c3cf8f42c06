//! docs/protocols.md, cell by cell: what each protocol puts is read in every other.

mod document;
mod python;
mod readers;
mod writers;

use dsmq::{Config, CoreMqPort, Server};

use self::document::{headings, quoted, table};
use self::readers::{Readers, TOPIC, shown};
use self::writers::{Put, Writers};
use super::peer::masked;
use super::support::server_with;

const WRITERS: [&str; 6] = ["JSON", "HTTP", "RestMQ", "CoreMQ", "O3one", "Mezzenger"];

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

fn readers() -> Vec<Reader> {
    let columns = PUT.split('|').map(str::trim).skip(1);
    let columns: Vec<_> = columns.collect();
    let rows = table("## How a message arrives", "| who reads | what comes | column |");
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

/// Puts a line of the document, and reads it in every way.
fn check(by: &str, how: &str, row: &[String], writers: &mut Writers, readers: &mut Readers) {
    let put = writers.put(by, how, TOPIC, quoted(&row[0]).0);
    for reader in self::readers() {
        let read = readers.read(&reader.name);
        if let (Some(frame), "Mezzenger") = (&put.frame, &*reader.name) {
            assert_eq!(&read, frame, "{by} put {}", row[0]);
            assert_eq!(row[reader.column], row[0]);
            continue;
        }
        let (read, expected) = (shown(&reader.name, &read), expected(&reader, row, &put));
        assert_eq!(masked(&read), masked(&expected), "{}: {by} put {} {how}", reader.name, row[0]);
    }
}

#[test]
fn what_each_puts_every_other_reads_as_the_document_says() {
    assert_eq!(headings("## What is put"), WRITERS);
    let server = server();
    let (mut writers, mut readers) = (Writers::connect(&server), Readers::connect(&server));
    for by in WRITERS {
        for row in table(&format!("### {by}"), PUT) {
            let how = quoted(&row[0]).1;
            check(by, how, &row, &mut writers, &mut readers);
            if by == "JSON" {
                check(by, "in a WebSocket", &row, &mut writers, &mut readers);
            }
        }
    }
}
