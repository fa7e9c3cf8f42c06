//! Every example, as a user runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, run};
use crate::suite::support::server;

/// An example in Rust. They are built here, since `cargo test --test` leaves them out.
pub fn rust(name: &str) -> Command {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--examples", "--target-dir"]);
        build.arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if cfg!(not(feature = "bench")) {
            build.args(["--no-default-features", "--features", "server"]);
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success());
        profile.join("examples")
    });
    Command::new(directory.join(name))
}

/// An example that an interpreter runs; none where there is no such interpreter.
fn script(interpreter: &str, name: &str) -> Option<Command> {
    let found = Command::new(interpreter).arg("--version").output();
    if found.is_err() {
        eprintln!("no {interpreter} here: {name} is not tested");
        return None;
    }
    let mut command = Command::new(interpreter);
    command.arg(format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR")));
    Some(command)
}

fn flags(command: &mut Command, addr: SocketAddr, count: &str, interval: &str) {
    command.args(["--host", "127.0.0.1", "--port", &addr.port().to_string()]);
    command.args(["--count", count, "--interval", interval]);
}

/// The first line of the getter shows that its session has begun; then come three messages.
fn put_and_get(mut put: Command, mut get: Command) {
    let server = server();
    flags(&mut get, server.addr(), "1000000", "0.01");
    flags(&mut put, server.addr(), "3", "0");
    let mut getter = Process::spawn(&mut get);
    let nothing = getter.line();
    let putter = run(&mut put, "");
    assert_eq!((putter.code, putter.stderr.as_str()), (Some(0), ""));
    assert_eq!(putter.stdout.len(), 3);
    let mut number = 0;
    while number < 3 {
        let line = getter.line();
        assert!(line.starts_with("client received "), "{line}");
        if line != nothing {
            assert!(line.contains("Hello!") && line.contains(&number.to_string()), "{line}");
            let sent = &putter.stdout[number];
            assert!(sent.starts_with("client sent ") && sent.contains(&number.to_string()));
            number += 1;
        }
    }
    drop(getter);
    server.stop();
}

#[test]
fn the_server_example_serves_itself() {
    let server = run(&mut rust("server"), "");
    assert_eq!((server.code, server.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        server.stdout[1..],
        ["client sent \"Hello!\"", "client received \"Hello!\"", "server stopped"]
    );
}

/// The server in one file, on a free port.
pub fn one_file() -> (Process, SocketAddr) {
    Process::server(rust("one_file").args(["127.0.0.1", "0"]))
}

#[test]
fn the_server_in_one_file_reads_requests_in_any_pieces() {
    let (_process, addr) = one_file();
    let mut early = Peer::connect_silent(addr);
    let empty = r#"{"message":""}"#;
    early.ask(r#"{"action":"get","topic":"t"}"#, empty);
    // Three requests in one segment, of which the last is half a request.
    let mut putter = Peer::connect_silent(addr);
    putter.send(concat!(
        r#"{"action":"put","topic":"t","message":{"a":[1,"}{"]}}{"action":"put","topic":"t","message":2}"#,
        r#"{"action":"get","to"#,
    ));
    // Requests of one connection are carried out in order, so that the reply follows both puts.
    putter.ask(r#"pic":"other"}"#, empty);
    let get = r#"{"action":"get","topic":"t"}"#;
    early.ask(&[get; 3].concat(), r#"{"message":{"a":[1,"}{"]}}{"message":2}{"message":""}"#);
    putter.ask(get, r#"{"message":{"a":[1,"}{"]}}"#);
    // Messages of before a connection are not for it.
    Peer::connect_silent(addr).ask(get, empty);
}

#[test]
fn the_server_in_one_file_outlives_clients_that_leave_or_err() {
    let (_process, addr) = one_file();
    let mut leaving = Peer::connect_silent(addr);
    leaving.send(r#"{"action":"put","topic":"t","message":"half"#);
    drop(leaving);
    let mut wrong = Peer::connect_silent(addr);
    let error = r#"{"error":"send an action, put or get, and a topic"}"#;
    wrong.ask(r#"{"action":"take"} [1]"#, &error.repeat(2));
    wrong.send("}");
    wrong.expect_end();
    Peer::connect_silent(addr).ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":""}"#);
}

#[test]
fn the_rust_examples_put_and_get() {
    put_and_get(rust("put"), rust("get"));
}

#[test]
fn the_python_examples_put_and_get() {
    if let (Some(put), Some(get)) = (script("python3", "put.py"), script("python3", "get.py")) {
        put_and_get(put, get);
    }
}

#[test]
fn the_shell_examples_put_and_get() {
    if let (Some(put), Some(get)) = (script("bash", "put.sh"), script("bash", "get.sh")) {
        put_and_get(put, get);
    }
}

/// A worker that takes its time is killed half-way; its job is done by another.
fn kill_and_go_on(worker: impl Fn() -> Command) {
    let server = server();
    let mut client = dsmq::Client::connect(server.addr()).unwrap();
    let start = |work: &str, lease: &str| {
        let mut worker = worker();
        worker.args(["--host", "127.0.0.1", "--port", &server.addr().port().to_string()]);
        Process::spawn(worker.args(["--work", work, "--lease", lease, "--count", "2"]))
    };
    client.put_confirmed("jobs", "wash up").unwrap();
    let mut killed = start("3600", "1");
    assert_eq!(killed.line(), "worker took \"wash up\", handed out 1 times");
    let pid = killed.id().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert_eq!(killed.end().code, None);

    let mut other = start("0", "60");
    assert_eq!(other.line(), "worker took \"wash up\", handed out 2 times");
    assert_eq!(other.line(), "worker did \"wash up\"");
    client.put("jobs", "tidy up").unwrap();
    assert_eq!(other.line(), "worker took \"tidy up\", handed out 1 times");
    let end = other.end();
    assert_eq!((end.code, &end.stdout[..]), (Some(0), &["worker did \"tidy up\"".to_owned()][..]));
    assert_eq!(client.history("jobs", 10).unwrap(), []);
}

#[test]
fn the_job_of_a_killed_rust_worker_is_done_by_another() {
    kill_and_go_on(|| rust("worker"));
}

#[test]
fn the_job_of_a_killed_python_worker_is_done_by_another() {
    if script("python3", "worker.py").is_some() {
        kill_and_go_on(|| script("python3", "worker.py").unwrap());
    }
}

/// A worker that is slower than its lease must not think that its work counts.
fn late(mut worker: Command) {
    let server = server();
    dsmq::Client::connect(server.addr()).unwrap().put_confirmed("jobs", "wash up").unwrap();
    worker.args(["--port", &server.addr().port().to_string(), "--count", "1"]);
    let worker = run(worker.args(["--work", "0.1", "--lease", "0.01"]), "");
    assert_eq!((worker.code, worker.stderr.as_str()), (Some(0), ""));
    assert_eq!(worker.stdout[1], "worker was late for \"wash up\"");
}

#[test]
fn a_worker_that_is_late_says_so() {
    late(rust("worker"));
    if let Some(worker) = script("python3", "worker.py") {
        late(worker);
    }
}

#[test]
fn a_getter_ends_after_its_count() {
    let server = server();
    let scripts = [script("python3", "get.py"), script("bash", "get.sh")];
    for mut get in scripts.into_iter().flatten().chain([rust("get")]) {
        flags(&mut get, server.addr(), "2", "0");
        let ended = run(&mut get, "");
        assert_eq!((ended.code, ended.stdout.len()), (Some(0), 2), "{ended:?}");
    }
}

#[test]
fn replies_of_any_shape_and_size_are_read_whole() {
    let server = server();
    let mut client = dsmq::Client::connect(server.addr()).unwrap();
    let messages = [
        serde_json::json!("}{ \\\" } é 😀"),
        serde_json::json!({"}": {"{": ["\\", "\"}"]}}),
        serde_json::json!("x".repeat(20_000)),
    ];
    for mut get in [script("python3", "get.py"), script("bash", "get.sh")].into_iter().flatten() {
        flags(&mut get, server.addr(), "1000000", "0.01");
        let mut getter = Process::spawn(&mut get);
        let nothing = getter.line();
        for message in &messages {
            client.put("greetings", message).unwrap();
        }
        let mut next = || std::iter::repeat_with(|| getter.line()).find(|line| *line != nothing);
        assert!(next().unwrap().contains("}{ "));
        assert!(next().unwrap().contains("}"));
        assert!(next().unwrap().len() > 20_000);
    }
}
