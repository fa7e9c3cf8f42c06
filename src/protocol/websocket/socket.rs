//! One WebSocket: messages in and out, pings answered, and an end of which the peer is told why.

use std::io;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits;
use crate::wire::websocket::{CloseCode, Decoder, Opcode, Received, write_frame};

pub struct Socket<S = TokioIo<Upgraded>> {
    stream: S,
    decoder: Decoder,
    /// What was read, and how much of that the decoder has had.
    input: Box<[u8]>,
    read: usize,
    decoded: usize,
    /// What is to be written, and how much of that is.
    output: Vec<u8>,
    written: usize,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
}

/// What a socket comes to next.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    End(End),
}

/// Why a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer is to be told so, and in words.
    Close(CloseCode, &'static str),
    /// The peer is gone.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Messages from it have at most `max` bytes.
    pub fn new(stream: S, max: usize) -> Socket<S> {
        Socket {
            stream,
            decoder: Decoder::new(max),
            input: vec![0; limits::BUFFER_BYTES].into(),
            read: 0,
            decoded: 0,
            output: Vec::new(),
            written: 0,
            broken: None,
        }
    }

    /// What comes next. Whoever stops waiting for it has lost nothing.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            // A peer that takes no pongs is not listened to. Of one that has left, what arrived
            // before can still be read.
            self.flush().await;
            if self.broken.is_some_and(|why| !is_disconnect(why)) {
                return Incoming::End(End::Gone);
            }
            let unread = self.input.get(self.decoded..self.read).unwrap_or_default();
            let (done, received) = self.decoder.advance(unread);
            self.decoded += done;
            match received {
                Ok(Some(Received::Text(text))) => return Incoming::Text(text),
                Ok(Some(Received::Binary(bytes))) => return Incoming::Binary(bytes),
                Ok(Some(Received::Ping(payload))) => self.put(Opcode::Pong, &payload),
                Ok(Some(Received::Close(code))) => return Incoming::End(End::Close(code, "")),
                Err(code) => return Incoming::End(End::Close(code, close_reason(code))),
                Ok(None) => {
                    if !self.read().await {
                        return Incoming::End(End::Gone);
                    }
                }
            }
        }
    }

    /// Reads behind what is not decoded yet: a part of a header. False at the end.
    async fn read(&mut self) -> bool {
        self.input.copy_within(self.decoded..self.read, 0);
        self.read -= self.decoded;
        self.decoded = 0;
        let room = self.input.get_mut(self.read..).unwrap_or_default();
        let read = self.stream.read(room).await.unwrap_or(0);
        self.read += read;
        read > 0
    }

    fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        write_frame(&mut self.output, opcode, payload);
    }

    /// Writes what there is. Whoever stops waiting for it may call it again.
    /// Returns how much of it is written: all, unless the peer is gone.
    async fn flush(&mut self) -> usize {
        while self.broken.is_none()
            && let Some(rest @ [_, ..]) = self.output.get(self.written..)
        {
            match self.stream.write(rest).await {
                Ok(0) => self.broken = Some(io::ErrorKind::WriteZero),
                Ok(some) => self.written += some,
                Err(error) => self.broken = Some(error.kind()),
            }
        }
        self.output.clear();
        if self.output.capacity() > limits::BUFFER_BYTES {
            self.output = Vec::new();
        }
        std::mem::take(&mut self.written)
    }

    /// Sends texts, and returns how many of their bytes are in frames that were written whole: all,
    /// unless the peer is gone.
    pub async fn send(&mut self, texts: impl Iterator<Item = &[u8]>) -> usize {
        self.flush().await;
        let mut ends = Vec::new();
        let mut bytes = 0;
        for text in texts {
            self.put(Opcode::Text, text);
            bytes += text.len();
            ends.push((self.output.len(), bytes));
        }
        let written = self.flush().await;
        let whole = ends.partition_point(|(end, _)| *end <= written);
        whole.checked_sub(1).and_then(|last| ends.get(last)).map_or(0, |(_, bytes)| *bytes)
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, payload: &[u8]) {
        self.put(Opcode::Binary, payload);
        self.flush().await;
    }

    /// Ends it. What the peer is still sending is read for a while: else it might never see why.
    pub async fn close(mut self, end: End) {
        if let End::Close(code, text) = end {
            self.put(Opcode::Close, &[&code.0.to_be_bytes(), text.as_bytes()].concat());
            let closing = async {
                self.flush().await;
                self.stream.shutdown().await
            };
            // A peer that does not read is not waited for.
            let _ = timeout(2 * limits::LINGER, closing).await;
        }
    }
}

/// Whether a write failed because the peer is gone.
fn is_disconnect(why: io::ErrorKind) -> bool {
    matches!(why, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What is wrong with what came, in words.
fn close_reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::TOO_LARGE => "the message is too large",
        CloseCode::INVALID => "a text must be UTF-8",
        _ => "a WebSocket client may not send this here",
    }
}
