//! Looks for a new greeting every second. Start `dsmq` first, this next, then the put example:
//! a client gets what is put after it connected.
//!
//!     cargo run --example get [-- --host HOST --port PORT --count N --interval SECONDS]

use std::error::Error;
use std::thread;
use std::time::Duration;

use dsmq::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let host = flag("--host", "127.0.0.1");
    let port: u16 = flag("--port", "30008").parse()?;
    let count: u32 = flag("--count", "1000").parse()?;
    let interval = Duration::try_from_secs_f64(flag("--interval", "1").parse()?)?;

    let mut client = Client::connect((host.as_str(), port))?;
    for _ in 0..count {
        match client.get("greetings")? {
            Some(message) => println!("client received {}", message.json()),
            None => println!("client received nothing"),
        }
        thread::sleep(interval);
    }
    Ok(())
}

/// The word behind this one on the command line.
fn flag(name: &str, default: &str) -> String {
    std::env::args().skip_while(|word| word != name).nth(1).unwrap_or(default.to_owned())
}
