//! Servers that do as little as possible. The raw echo shows what reading and writing costs, with one
//! thread for each connection; the constant is a web server whose answer is ready. So that the same bytes travel as to and from dsmq, every so many bytes that come
//! in are answered by the echo with as many as a reply has: no parsing, no lock, no memory touched.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;

use crate::measure::{Result, SIZE, TOPIC};

/// Makes this program the echo: `FLAG REQUEST_BYTES REPLY_BYTES`.
pub const FLAG: &str = "--echo";

/// Makes this program a web server that answers a constant.
pub const CONSTANT_FLAG: &str = "--constant";

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

/// Answers with as many bytes as dsmq, until it is killed.
pub fn serve_constant() -> Result<()> {
    let key = format!("{TOPIC}:1795216135066522");
    let taken =
        format!("{{\"value\": \"{}\", \"key\": \"{key}\", \"count\": 0}}\r\n", "x".repeat(SIZE));
    let added = format!("{key}\r\n");
    let take = async move || ([(CONTENT_TYPE, "application/json")], taken.clone());
    let routes = Router::new().route("/q/{queue}", post(async move || added.clone()).get(take));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("constant listening on {}", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        use axum::serve::ListenerExt;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, routes).await?)
    })
}
