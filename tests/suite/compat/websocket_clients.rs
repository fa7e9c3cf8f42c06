//! Unmodified programs for the Python dsmq 1.4.1, which speaks WebSocket: its own tests and its
//! example clients.

use std::process::Command;

/// Runs the programs against the given `dsmq` command.
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/websocket_clients.py");

/// The tests of the package.
const TESTS: [&str; 10] = [
    "test_client_server",
    "test_write_one_read_one",
    "test_get_wait",
    "test_get_latest",
    "test_multitopics",
    "test_client_history_cutoff",
    "test_two_write_clients",
    "test_two_read_clients",
    "test_speed_writing",
    "test_speed_reading",
];

#[test]
#[ignore = "needs Python with dsmq 1.4.1 from PyPI: make test installs it"]
fn package_tests_and_example_clients_pass() {
    let python = std::env::var_os("DSMQ_TEST_PYTHON_WEBSOCKET")
        .expect("DSMQ_TEST_PYTHON_WEBSOCKET names a Python that has dsmq 1.4.1: make test sets it");
    let mut driver = Command::new(python);
    let output = driver.arg(DRIVER).arg(env!("CARGO_BIN_EXE_dsmq")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    // The first test prints this after it has stopped a server.
    let stopped = ["Could not connect to dsmq server.".to_owned()];
    let passed = TESTS.iter().map(|test| format!("{test} passed"));
    let sent = (0..5).map(|number| format!("client sent {number}. Hello, world"));
    let received = (0..5).map(|number| format!("client received {number}. Hello, world"));
    let empty = ["client received ".to_owned(), "client received ".to_owned()];
    let end = ["the server ended with 0".to_owned()];
    let passed = stopped.into_iter().chain(passed);
    let expected: Vec<_> = passed.chain(sent).chain(received).chain(empty).chain(end).collect();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{errors}");
}
