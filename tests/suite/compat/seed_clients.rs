//! Unmodified programs for the Python dsmq 0.2.0, against this server and their own.

use std::net::SocketAddr;
use std::process::Command;

use crate::suite::cli::examples::one_file;
use crate::suite::support::server;

/// Runs the example clients of the PyPI package against a server; the getter connects first.
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/seed_clients.py");

fn python() -> Command {
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has dsmq 0.2.0: make test sets it");
    Command::new(python)
}

fn printed(args: &[&str]) -> String {
    let output = python().arg(DRIVER).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn printed_against(addr: SocketAddr) -> String {
    printed(&["127.0.0.1", &addr.port().to_string()])
}

#[test]
#[ignore = "needs Python with dsmq 0.2.0 from PyPI: make test installs it"]
fn example_clients_print_the_same_as_against_their_server() {
    let server = server();
    let ours = printed_against(server.addr());
    let theirs = printed(&[]);
    assert_eq!(ours, theirs);
    assert_eq!(ours.matches("client sent {\"action\": \"put\"").count(), 5, "{ours}");
    assert_eq!(ours.matches("client received {'message': '").count(), 7, "{ours}");
    assert!(ours.contains("client received {'message': '4. Hello, world'}"), "{ours}");
    assert!(ours.contains("client received {'message': ''}"), "{ours}");
}

#[test]
#[ignore = "needs Python with dsmq 0.2.0 from PyPI: make test installs it"]
fn example_clients_pass_against_the_one_file_server() {
    let (_process, addr) = one_file();
    let ours = printed_against(addr);
    assert_eq!(ours, printed(&[]));
    assert_eq!(ours.matches("client received {'message': '").count(), 7, "{ours}");
}
