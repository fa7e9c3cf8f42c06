//! The raw echo: what a server costs that does nothing but read and write, one thread for each
//! connection. So that the same bytes travel as to and from dsmq, every so many bytes that come
//! in are answered with as many as a reply has: no parsing, no lock, no memory touched.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::Result;

/// Makes this program the echo: `FLAG REQUEST_BYTES REPLY_BYTES`.
pub const FLAG: &str = "--echo";

const READ_BYTES: usize = 64 * 1024;

/// Answers until it is killed.
pub fn serve(request: &str, reply: &str) -> Result<()> {
    let (request, reply) = (request.parse()?, reply.parse()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("echo listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        thread::Builder::new().spawn(move || answer(stream, request, reply))?;
    }
}

fn answer(mut stream: TcpStream, request: usize, reply: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    let replies = vec![b'x'; (READ_BYTES / request + 1) * reply];
    let mut unanswered = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => unanswered += count,
        }
        stream.write_all(&replies[..unanswered / request * reply])?;
        unanswered %= request;
    }
}
