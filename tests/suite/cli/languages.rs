//! examples/: a greeting put and got by programs in other languages, with a socket and JSON alone.

use std::process::Command;

use dsmq::Client;

use crate::suite::support::folder::Folder;
use crate::suite::support::process::{Process, run};
use crate::suite::support::server;

fn example(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn interpreted(words: &[&str], name: &str) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(example(name));
    command
}

/// A subscriber over ØMQ, on the server's own port, and one who publishes to it.
fn publish(mut publish: Command, mut subscribe: Command, printed: &str) {
    let server = server();
    let port = server.addr().port().to_string();
    let mut observer = Client::connect(server.addr()).unwrap();
    observer.put("greetings", "too early").unwrap();
    let mut subscriber = Process::spawn(subscribe.arg(&port));
    while observer.topics().unwrap()[0].consumers < 1 {}
    let publisher = run(publish.arg(&port), "");
    assert_eq!((publisher.code, publisher.stderr.as_str()), (Some(0), ""));
    assert_eq!(subscriber.line(), printed);
    assert_eq!(subscriber.end().code, Some(0));
}

#[test]
#[ignore = "needs Python with pyzmq from PyPI: make test installs it"]
fn in_python_over_zmq() {
    let python = std::env::var("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has pyzmq: make test sets it");
    let [publisher, subscriber] =
        ["publish", "subscribe"].map(|name| interpreted(&[&python], &format!("zmq/{name}.py")));
    publish(publisher, subscriber, "greetings Hello from pyzmq!");
}

#[test]
#[ignore = "needs a JDK and jeromq: make test installs them"]
fn in_java_over_zmq() {
    let folder = std::env::var("DSMQ_TEST_JEROMQ")
        .expect("DSMQ_TEST_JEROMQ names a folder with jeromq.jar: make test sets it");
    let jar = format!("{folder}/jeromq.jar");
    let [publisher, subscriber] = ["Publish", "Subscribe"]
        .map(|name| interpreted(&["java", "-cp", &jar], &format!("zmq/{name}.java")));
    publish(publisher, subscriber, "greetings Hello from jeromq!");
}

/// The getter waits before the putter starts, and prints what that put.
fn greet(mut put: Command, mut get: Command, printed: &str) {
    let server = server();
    let port = server.addr().port().to_string();
    let mut observer = Client::connect(server.addr()).unwrap();
    let mut getter = Process::spawn(get.arg(&port));
    // The session begins when the connection is accepted.
    while observer.stats().unwrap().connections < 2 {}
    let putter = run(put.arg(&port), "");
    assert_eq!((putter.code, putter.stderr.as_str()), (Some(0), ""));
    assert_eq!(getter.line(), printed);
    assert_eq!(getter.end().code, Some(0));
}

#[test]
#[ignore = "needs Node: make test installs it"]
fn in_node() {
    let [put, get] = ["put", "get"].map(|name| interpreted(&["node"], &format!("node/{name}.js")));
    greet(put, get, "Hello from Node!");
}

#[test]
#[ignore = "needs a JDK: make test installs it"]
fn in_java() {
    let [put, get] =
        ["Put", "Get"].map(|name| interpreted(&["java"], &format!("java/{name}.java")));
    greet(put, get, r#"{"message":"Hello from Java!"}"#);
}

#[test]
#[ignore = "needs Go: make test installs it"]
fn in_go() {
    let folder = Folder::new("go");
    let [put, get] = ["put", "get"].map(|name| {
        let mut go = interpreted(&["go", "run"], &format!("go/{name}.go"));
        go.env("GOCACHE", folder.path("cache"));
        go
    });
    greet(put, get, "Hello from Go!");
}

#[test]
#[ignore = "needs a C compiler: make test installs it"]
fn in_c() {
    let folder = Folder::new("c");
    let [put, get] = ["put", "get"].map(|name| {
        let program = folder.path(name);
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
        let compiled = run(cc.arg(example(&format!("c/{name}.c"))), "");
        assert_eq!((compiled.code, compiled.stderr.as_str()), (Some(0), ""));
        Command::new(program)
    });
    greet(put, get, r#"{"message":"Hello from C!"}"#);
}
