//! Programs of O3one's own document, as they are printed there, and libzmq's own sockets.

use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/");

/// What a driver prints that is given the `dsmq` command.
fn printed(driver: &str, further: &[String]) -> String {
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has pyzmq: make test sets it");
    let mut command = Command::new(python);
    command.arg(format!("{FOLDER}{driver}")).arg(env!("CARGO_BIN_EXE_dsmq")).args(further);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Python with pyzmq, a JDK, jeromq, and the ports 5555, 5556, 8765 and 9000: make test"]
fn the_programs_of_the_document_print_what_it_says() {
    let java = std::env::var("DSMQ_TEST_JEROMQ")
        .expect("DSMQ_TEST_JEROMQ names a folder with jeromq's jars: make test sets it");
    let expected = "\
python: Waiting for message …
python: o3 Hello 5
java: Subscribe to the server
java: o3 Hello 5
the server ended with 0
";
    assert_eq!(printed("o3one_programs.py", &[java]), expected);
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn libzmq_finds_nothing_wrong() {
    let expected = "\
heartbeats: 3 publications between them
every socket: REQ DEALER PUSH PUB
prefixes: o3 1, o3x 2
spam: 5001 of 5001
1000 subscribers: 500 of 500 have all of 2000
the server ended with 0
";
    assert_eq!(printed("o3one_pyzmq.py", &[]), expected);
}
