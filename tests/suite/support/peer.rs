//! A raw connection that says bytes and expects bytes.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::PATIENCE;

/// One raw connection.
pub struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    /// Connects; the session has begun when this returns.
    pub fn connect(addr: SocketAddr) -> Peer {
        let mut peer = Peer::connect_silent(addr);
        peer.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
        peer
    }

    /// Connects and says nothing.
    pub fn connect_silent(addr: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// As [`Peer::send`], to one that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The same connection, for another thread that sends.
    pub fn try_clone(&self) -> Peer {
        Peer { stream: BufReader::new(self.stream.get_ref().try_clone().unwrap()) }
    }

    /// The next `len` bytes.
    pub fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            let read = match self.stream.read(&mut bytes[filled..]) {
                // The machine stood still.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    panic!("{error} after {:?}", String::from_utf8_lossy(&bytes[..filled]))
                }
                Ok(read) => read,
            };
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes[..filled]));
            filled += read;
        }
        bytes
    }

    /// The next `len` bytes; `None` if the connection ends before.
    pub fn try_receive(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("{error}"),
            Err(_) => None,
        }
    }

    /// The next bytes must be these, whatever the ids and timestamps in them.
    pub fn expect(&mut self, expected: &str) -> String {
        let received = String::from_utf8_lossy(&self.receive(expected.len())).into_owned();
        assert_eq!(masked(&received), masked(expected));
        received
    }

    /// As [`Peer::expect`]; what is not compared of errors may have another length.
    pub fn expect_replies(&mut self, expected: &str, texts: ErrorTexts) -> String {
        if texts.shown(expected) == masked(expected) {
            return self.expect(expected);
        }
        let replies = serde_json::Deserializer::from_str(expected).into_iter::<Box<RawValue>>();
        let received = replies.map(|reply| {
            let received = self.receive_text();
            assert_eq!(texts.shown(&received), texts.shown(reply.unwrap().get()));
            received
        });
        received.collect()
    }

    /// The next reply or push, as it was written.
    pub fn receive_text(&mut self) -> String {
        let mut reader = serde_json::Deserializer::from_reader(&mut self.stream);
        let text: Box<RawValue> = Deserialize::deserialize(&mut reader).unwrap();
        text.get().to_owned()
    }

    pub fn ask(&mut self, request: &str, expected: &str) {
        self.send(request);
        self.expect(expected);
    }

    /// Whether there is something to receive.
    pub fn has_arrived(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let arrived = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        arrived || !self.stream.buffer().is_empty()
    }

    /// All up to the server's end.
    pub fn receive_all(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The server must close without another byte.
    pub fn expect_end(&mut self) {
        assert_eq!(self.receive_all(), "");
    }

    /// Ends this side.
    pub fn end(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next reply or push, whole, and no byte behind it.
    pub fn receive_reply(&mut self) -> Value {
        let mut reader = serde_json::Deserializer::from_reader(&mut self.stream);
        Deserialize::deserialize(&mut reader).unwrap()
    }

    /// An error reply of this code, whole.
    pub fn expect_error(&mut self, code: &str) -> Value {
        let reply = self.receive_reply();
        assert_eq!(reply["code"], code, "{reply}");
        assert!(reply["error"].as_str().is_some_and(|text| text.len() > 10), "{reply}");
        reply
    }
}

/// The reply to a request.
pub fn ask(peer: &mut Peer, request: &Value) -> Value {
    peer.send(request.to_string());
    peer.receive_reply()
}

/// With the ids and timestamps of a server replaced: 16 digits, and 10 with 6 behind a point.
pub fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() || (c == '.' && digits.len() == 10) {
            digits.push(c);
            continue;
        }
        let id = digits.len() == 16 && !digits.contains('.');
        let timestamp = digits.len() == 17 && digits.contains('.');
        masked.push_str(if id {
            "<id>"
        } else if timestamp {
            "<timestamp>"
        } else {
            &digits
        });
        digits.clear();
        masked.push(c);
    }
    masked.pop();
    masked
}

/// Whether a replay compares the human text of our own errors.
#[derive(Clone, Copy)]
pub enum ErrorTexts {
    Compared,
    /// Any text that is not empty will do.
    Masked,
}

impl ErrorTexts {
    /// The text as a replay compares it.
    pub fn shown(self, text: &str) -> String {
        match self {
            ErrorTexts::Compared => masked(text),
            ErrorTexts::Masked => masked(&without_error_texts(text)),
        }
    }
}

/// Replaces the text of each `{"error":"…","code":…`. Errors of the older queues' protocols have no
/// code: their text is part of the protocol and stays.
fn without_error_texts(text: &str) -> String {
    const BEFORE: &str = r#"{"error":""#;
    let mut parts = text.split(BEFORE);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut is_escaped = false;
        let end = part.find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let (said, rest) = part.split_at(end.unwrap_or(0));
        let is_ours = !said.is_empty() && rest.starts_with(r#"","code":""#);
        without += BEFORE;
        without += if is_ours { "<text>" } else { said };
        without += rest;
    }
    without
}

#[test]
fn only_the_text_of_our_own_errors_is_masked() {
    let shown = |text| ErrorTexts::Masked.shown(text);
    let error = r#"400 {"error":"say \"a\", or \\","code":"bad_field","tag":1}{"ok":true}"#;
    let other = r#"400 {"error":"other words","code":"bad_field","tag":1}{"ok":true}"#;
    assert_eq!(shown(error), r#"400 {"error":"<text>","code":"bad_field","tag":1}{"ok":true}"#);
    assert_eq!(shown(error), shown(other));
    assert_ne!(ErrorTexts::Compared.shown(error), ErrorTexts::Compared.shown(other));
    for (a, b) in [
        (error, r#"400 {"error":"","code":"bad_field","tag":1}{"ok":true}"#),
        (error, r#"400 {"error":"say","code":"bad_topic","tag":1}{"ok":true}"#),
        (error, r#"400 {"error":"say","code":"bad_field","tag":2}{"ok":true}"#),
        (error, r#"413 {"error":"say","code":"bad_field","tag":1}{"ok":true}"#),
        (r#"{"error":"Command not recognized"}"#, r#"{"error":"No queues found"}"#),
        (r#"{"error": "empty queue"}"#, r#"{"error": "null resultset"}"#),
        (r#"{"response":"ERROR: a"}"#, r#"{"response":"ERROR: b"}"#),
    ] {
        assert_ne!(shown(a), shown(b));
    }
}
