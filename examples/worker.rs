//! A worker: takes jobs from the topic `jobs`, one at a time, works, and says when one is done.
//! Start `dsmq`, as many workers as you like, and give them something to do:
//!
//!     cargo run --example worker [-- --host HOST --port PORT --count N --work S --lease S]
//!     dsmq put jobs 'wash up'
//!
//! Kill a worker while it works: when the lease of its job ends, another one does it.

use std::error::Error;
use std::thread;
use std::time::Duration;

use dsmq::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let host = flag("--host", "127.0.0.1");
    let port: u16 = flag("--port", "30008").parse()?;
    let count: u32 = flag("--count", "1000000").parse()?;
    let work = Duration::try_from_secs_f64(flag("--work", "1").parse()?)?;
    // Longer than any work takes: a job whose lease ends is given to another worker.
    let lease = Duration::try_from_secs_f64(flag("--lease", "10").parse()?)?;

    let mut client = Client::connect((host.as_str(), port))?;
    for _ in 0..count {
        let Some(job) = client.take_wait("jobs", Some(lease), Duration::MAX)? else { break };
        let text = job.message.json();
        println!("worker took {text}, handed out {} times", job.deliveries);
        thread::sleep(work);
        match client.ack(&job) {
            Ok(()) => println!("worker did {text}"),
            // The work took longer than the lease. What is not to be done twice has to be made
            // so that a second time does no harm: look whether it is done, then do it.
            Err(error) if error.code() == Some("gone") => println!("worker was late for {text}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The word behind this one on the command line.
fn flag(name: &str, default: &str) -> String {
    std::env::args().skip_while(|word| word != name).nth(1).unwrap_or(default.to_owned())
}
