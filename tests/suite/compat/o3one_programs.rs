//! Programs that publish and subscribe like those in O3one's document, and libzmq's own sockets.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/");

/// Tests that use O3one's fixed ports run one at a time.
static PORTS: Mutex<()> = Mutex::new(());

/// The output of a driver, which receives the path of the `dsmq` command.
fn printed(driver: &str) -> String {
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has pyzmq: make test sets it");
    let mut command = Command::new(python);
    command.arg(format!("{FOLDER}{driver}")).arg(env!("CARGO_BIN_EXE_dsmq"));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Python with pyzmq, and O3one's own ports: make test installs the one"]
fn python_programs_print_the_documented_output() {
    let expected = "\
Waiting for message …
o3 Hello 5
the server ended with 0
";
    assert_eq!(printed("o3one_programs.py"), expected);
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn libzmq_sockets_pass() {
    let expected = "\
heartbeats: 3 publications between them
every socket: REQ DEALER PUSH PUB
prefixes: o3 1, o3x 2
spam: 5001 of 5001
1000 subscribers: 500 of 500 have all of 2000
the server ended with 0
";
    assert_eq!(printed("o3one_pyzmq.py"), expected);
}
