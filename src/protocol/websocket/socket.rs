//! One WebSocket: reads and writes messages, answers pings, and closes with a code and a reason.

use std::io;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits;
use crate::wire::websocket::{CloseCode, Opcode, WebSocketDecoder, WebSocketMessage, write_frame};

pub struct Socket<S = TokioIo<Upgraded>> {
    stream: S,
    decoder: WebSocketDecoder,
    /// The bytes that were read, and how many of them the decoder has received.
    input: Box<[u8]>,
    read: usize,
    decoded: usize,
    /// Bytes to write, and how many of them are written.
    output: Vec<u8>,
    written: usize,
    /// The error of the first failed write; nothing is written after it.
    broken: Option<io::ErrorKind>,
}

/// The next event of a socket.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    End(End),
}

/// The reason for the end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Close with this code and reason.
    Close(CloseCode, &'static str),
    /// The peer is gone.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub fn new(stream: S, max: usize) -> Socket<S> {
        Socket {
            stream,
            decoder: WebSocketDecoder::new(max),
            input: vec![0; limits::BUFFER_BYTES].into(),
            read: 0,
            decoded: 0,
            output: Vec::new(),
            written: 0,
            broken: None,
        }
    }

    /// Waits for the next event. Cancelling the future loses nothing.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            // Requests are not read from a peer that does not accept pongs. If the peer has
            // disconnected, what arrived before can still be read.
            self.flush().await;
            if self.broken.is_some_and(|why| !is_disconnect(why)) {
                return Incoming::End(End::Gone);
            }
            let unread = self.input.get(self.decoded..self.read).unwrap_or_default();
            let (done, received) = self.decoder.advance(unread);
            self.decoded += done;
            match received {
                Ok(Some(WebSocketMessage::Text(text))) => return Incoming::Text(text),
                Ok(Some(WebSocketMessage::Binary(bytes))) => return Incoming::Binary(bytes),
                Ok(Some(WebSocketMessage::Ping(payload))) => self.put(Opcode::Pong, &payload),
                Ok(Some(WebSocketMessage::Close(code))) => {
                    return Incoming::End(End::Close(code, ""));
                }
                Err(code) => return Incoming::End(End::Close(code, close_reason(code))),
                Ok(None) => {
                    if !self.read().await {
                        return Incoming::End(End::Gone);
                    }
                }
            }
        }
    }

    /// Appends to the undecoded bytes. Returns false at the end.
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

    /// Writes the output. Cancelling the future is safe: the next call continues. Returns the
    /// number of bytes written, which is all unless the peer is gone.
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

    /// Sends text messages. Returns how many of their bytes are in completely written frames: all,
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

    pub async fn send_binary(&mut self, payload: &[u8]) {
        self.put(Opcode::Binary, payload);
        self.flush().await;
    }

    /// Closes the socket. The connection then discards what the peer still sends, so that the close
    /// frame is not lost to a reset.
    pub async fn close(mut self, end: End) {
        if let End::Close(code, text) = end {
            self.put(Opcode::Close, &[&code.0.to_be_bytes(), text.as_bytes()].concat());
            let closing = async {
                self.flush().await;
                self.stream.shutdown().await
            };
            // The timeout bounds the wait for a peer that does not read.
            let _ = timeout(2 * limits::LINGER, closing).await;
        }
    }
}

/// Whether a write failed because the peer has disconnected.
fn is_disconnect(why: io::ErrorKind) -> bool {
    matches!(why, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The reason sent with a close code after invalid input.
fn close_reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::TOO_LARGE => "the message is too large",
        CloseCode::INVALID => "text messages must be UTF-8",
        _ => "the frame is not allowed here",
    }
}
