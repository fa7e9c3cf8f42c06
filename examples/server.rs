//! A dsmq server inside another program: starts it, puts and gets through it, stops it.
//!
//!     cargo run --example server [-- --port PORT]
//!
//! Without a port it takes a free one.

use std::error::Error;

use dsmq::{Client, Config, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let port = match std::env::args().skip_while(|word| word != "--port").nth(1) {
        Some(port) => port.parse()?,
        None => 0,
    };
    let server = Server::start(Config { port, ..Config::default() })?;
    println!("server started at {}", server.addr());

    let mut client = Client::connect(server.addr())?;
    client.put("greetings", "Hello!")?;
    println!("client sent \"Hello!\"");
    if let Some(message) = client.get("greetings")? {
        println!("client received {}", message.json());
    }

    server.stop();
    println!("server stopped");
    Ok(())
}
