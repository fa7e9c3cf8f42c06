//! Runs a client as strict as CoreMQ's own, tests/python/coremq_client.py.

use std::process::{Command, Stdio};

use crate::suite::support::process::{Process, dsmq};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/coremq_client.py");

#[test]
#[ignore = "needs Python 3: make test runs it"]
fn strict_client_receives_all_messages_and_a_bye() {
    let (mut server, _) = Process::server(&mut dsmq(&["--port", "0", "--coremq=0"]));
    let addr = server.address_of("coremq");
    let mut python = Command::new("python3");
    python.args([CLIENT, "127.0.0.1", &addr.port().to_string(), "20000"]);
    let mut client = Process::spawn(python.stderr(Stdio::piped()));
    assert_eq!(client.line(), "all is well");
    let stop = Command::new("kill").arg(server.id().to_string()).status();
    assert!(stop.unwrap().success());
    assert_eq!(server.end().code, Some(0));
    let ended = client.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, ["bye", "bye"]);
}
