//! What the load generator says to beanstalkd.

use dsmq::cli::bench::load::json::message;
use dsmq::cli::bench::load::{Part, Reply, Request, Step, Work};

/// For so long a reserved job is its client's.
const RESERVED_SECONDS: u32 = 60;

/// Puts a job; the reply has its id.
pub fn put(size: usize) -> Work {
    let put = format!("put 0 0 {RESERVED_SECONDS} {size}\r\n{}\r\n", message(size));
    Work { request: put.into_bytes(), reply: Reply::between(b"INSERTED ", b'\n'), laps: None }
}

/// Takes a job; its id is what [`delete`] names.
pub fn reserve(size: usize) -> Step {
    let job = format!("{size}\r\n{}\r\n", message(size)).into_bytes();
    let begin = Part::Exactly(b"RESERVED ".to_vec());
    let reply = Reply::Parts(vec![begin, Part::Id(b' '), Part::Exactly(job)]);
    Step { request: Request::Same(b"reserve\r\n".to_vec()), reply }
}

pub fn delete() -> Step {
    let request = Request::Naming { begin: b"delete ".to_vec(), end: b"\r\n".to_vec() };
    Step { request, reply: Reply::Is(b"DELETED\r\n".to_vec()) }
}
