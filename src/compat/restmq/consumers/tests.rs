//! A consumer whose connection breaks. The connection is a pipe smaller than a message, so the
//! tests know exactly what arrived.

use std::sync::Arc;
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::{Broker, Caller, Received};
use crate::compat::restmq;
use crate::config::Config;
use crate::ops::{Batch, Topic};
use crate::protocol::http::app::App;
use crate::protocol::http::{Site, serve};
use crate::store::{self, Rules};

const PIPE_BYTES: usize = 1_000;
const MESSAGE_BYTES: usize = 3_000;
const MESSAGES: usize = 20;

fn topic() -> Topic {
    Topic::new("q").unwrap()
}

/// A broker with messages that begin with their numbers.
fn broker() -> Arc<Broker> {
    let broker = Arc::new(Broker::new(store::in_memory(Rules::default()).unwrap()));
    let mut batch = Batch::default();
    for number in 0..MESSAGES {
        let message = format!("\"{number} {}\"", "x".repeat(MESSAGE_BYTES));
        batch.put(topic(), message.as_bytes(), None);
    }
    broker.apply(&Caller::server(), &mut batch);
    broker
}

/// A connection to a server over a pipe, and the task that serves it.
fn connect(broker: &Arc<Broker>) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = duplex(PIPE_BYTES);
    let (stop, stops) = watch::channel(false);
    let app = Arc::new(App::new(broker.clone(), Config::default(), stops));
    let site = Arc::new(Site::new(app, restmq::routes()));
    let caller = Caller::server();
    let session = broker.session(&caller);
    let served = tokio::spawn(async move {
        // The test checks the queue, not how the task ends.
        let _ = serve(site, server, Vec::new(), caller, session, stop).await;
    });
    (client, served)
}

/// Reads this many complete messages and the beginning of the next, and closes the pipe.
async fn read_and_hang_up(broker: &Arc<Broker>, request: &str, messages: usize) {
    let (mut client, served) = connect(broker);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    loop {
        let read = client.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "it ended early");
        if String::from_utf8_lossy(&text).matches("\"key\"").count() > messages {
            break;
        }
    }
    drop(client);
    served.await.unwrap();
}

/// The numbers of the messages left in the queue.
fn left(broker: &Arc<Broker>) -> Vec<usize> {
    let consumer = broker.consume(&Caller::server(), &topic(), Waker::noop().clone());
    let mut numbers = Vec::new();
    while let Received::Message(parcel) = broker.receive(&Caller::server(), &consumer) {
        let text = str::from_utf8(&parcel.message().body[1..]).unwrap();
        numbers.push(text.split(' ').next().unwrap().parse().unwrap());
    }
    numbers
}

const COMET: &str = "GET /c/q HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SOCKET: &str = "GET /ws/q HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn broken_connection_returns_only_incomplete_messages() {
    for request in [COMET, SOCKET] {
        for messages in [0, 1, 2, 7, MESSAGES - 1] {
            let broker = broker();
            let reads = read_and_hang_up(&broker, request, messages);
            Runtime::new().unwrap().block_on(reads);
            let expected: Vec<usize> = (messages..MESSAGES).collect();
            assert_eq!(left(&broker), expected, "{request}");
        }
    }
}
