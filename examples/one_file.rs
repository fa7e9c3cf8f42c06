//! The idea of dsmq on one page: a thread for each connection, JSON, and one SQLite table in memory.
//!
//! `cargo run --example one_file [HOST [PORT]]`, then talk to it from any language that has sockets and JSON:
//!
//! ```text
//! {"action":"put","topic":"greetings","message":"Hello!"}     no reply
//! {"action":"get","topic":"greetings"}                        {"message":"Hello!"}
//! {"action":"get","topic":"greetings"}                        {"message":""}
//! ```
//!
//! A `get` returns the oldest message of its topic that was put after this client connected and that
//! this client has not received yet, or `""`. Nothing is removed, so that every client gets every message.
//! The real server adds what this one lacks: bounds, waiting, takes with leases, files, HTTP and speed.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Deserializer, Value, json};
use socket2::{SockRef, TcpKeepalive};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The table of all messages. SQLite counts their ids up, so that an id is also a position: the
/// messages after it are those that were put later.
struct Messages(Connection);

impl Messages {
    fn new() -> Result<Messages> {
        let sqlite = Connection::open_in_memory()?;
        sqlite.execute_batch(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic TEXT, message TEXT);
             CREATE INDEX by_topic ON messages (topic, id);",
        )?;
        Ok(Messages(sqlite))
    }

    fn put(&self, topic: &str, message: &Value) -> Result<()> {
        let sql = "INSERT INTO messages (topic, message) VALUES (?1, ?2)";
        self.0.prepare_cached(sql)?.execute((topic, message.to_string()))?;
        Ok(())
    }

    /// The oldest message of the topic after this id, with its own id.
    fn get(&self, topic: &str, after: i64) -> Result<Option<(i64, Value)>> {
        let mut select = self.0.prepare_cached(
            "SELECT id, message FROM messages WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT 1",
        )?;
        let row = select.query_row((topic, after), |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((id, message)): Option<(i64, String)> = row.optional()? else { return Ok(None) };
        Ok(Some((id, serde_json::from_str(&message)?)))
    }

    /// The id of the newest message, or 0.
    fn last(&self) -> Result<i64> {
        let sql = "SELECT coalesce(max(id), 0) FROM messages";
        Ok(self.0.query_row(sql, [], |row| row.get(0))?)
    }
}

/// One client's session.
struct Session {
    /// The newest message when the client connected.
    connected: i64,
    /// The last message of each topic that the client received.
    received: HashMap<String, i64>,
}

impl Session {
    /// Carries out one request; a put has no reply.
    fn answer(&mut self, request: &Value, messages: &Messages) -> Result<Option<Value>> {
        match (request["action"].as_str(), request["topic"].as_str()) {
            (Some("put"), Some(topic)) => {
                messages.put(topic, &request["message"])?;
                Ok(None)
            }
            (Some("get"), Some(topic)) => {
                let after = self.received.get(topic).copied().unwrap_or(self.connected);
                let Some((id, message)) = messages.get(topic, after)? else {
                    return Ok(Some(json!({ "message": "" })));
                };
                self.received.insert(topic.to_owned(), id);
                Ok(Some(json!({ "message": message })))
            }
            _ => Ok(Some(json!({ "error": "send an action, put or get, and a topic" }))),
        }
    }
}

/// Serves one client until it leaves or sends something that is not JSON.
fn serve(mut client: &TcpStream, mut session: Session, messages: &Mutex<Messages>) -> Result<()> {
    // Replies leave at once, and a client whose machine is gone does not keep its thread for ever.
    client.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    SockRef::from(client).set_tcp_keepalive(&keepalive)?;
    // No separator is needed: a request ends where its JSON object ends. The iterator reads on until
    // it has a whole one, and keeps what follows it.
    let requests = Deserializer::from_reader(BufReader::new(client)).into_iter::<Value>();
    for request in requests {
        let request = request?;
        // The lock ends with this line: a client that does not read its replies must not delay others.
        let reply = session.answer(&request, &lock(messages))?;
        if let Some(reply) = reply {
            client.write_all(reply.to_string().as_bytes())?;
        }
    }
    Ok(())
}

/// The messages, even if a thread that had them panicked: SQLite rolls back what was half-done.
fn lock(messages: &Mutex<Messages>) -> MutexGuard<'_, Messages> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port: u16 = args.next().map_or(Ok(30008), |port| port.parse())?;
    let listener = TcpListener::bind((host.as_str(), port))?;
    println!("dsmq listening on {} (json)", listener.local_addr()?);
    let messages = Arc::new(Mutex::new(Messages::new()?));
    for client in listener.incoming() {
        // One that has left again already is no reason to end.
        let Ok(client) = client else { continue };
        let messages = Arc::clone(&messages);
        // Read here, not in the thread: the order of connections is the order of their sessions.
        let session = Session { connected: lock(&messages).last()?, received: HashMap::new() };
        thread::spawn(move || {
            if let Err(error) = serve(&client, session, &messages) {
                eprintln!("a client was lost: {error}");
            }
        });
    }
    Ok(())
}
