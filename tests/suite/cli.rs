//! The `dsmq` command as a user meets it: what it prints, and how it ends.

use std::net::TcpListener;
use std::time::Duration;

use dsmq::Client;

use super::process::{Ended, Process, dsmq, dsmq_at, run};
use super::support::server;

fn ended(code: i32, stdout: &[&str]) -> Ended {
    Ended { code: Some(code), stdout: lines(stdout), stderr: String::new() }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

#[test]
fn help_says_what_it_is_and_how_to_try_it() {
    let help = run(&mut dsmq(&["--help"]), "");
    assert_eq!(help.code, Some(0));
    assert!(help.stdout[0].starts_with("A dead simple message queue"));
    assert!(help.stdout.iter().any(|line| line.trim().starts_with("dsmq put greetings 'Hello!'")));
    let version = run(&mut dsmq(&["--version"]), "");
    assert_eq!(version, ended(0, &[concat!("dsmq ", env!("CARGO_PKG_VERSION"))]));
}

#[test]
fn the_server_is_used_from_other_processes() {
    let (_server, addr) = Process::server(&mut dsmq(&["--port", "0"]));
    assert_eq!(run(&mut dsmq_at(addr, &["put", "t", "Hello!"]), ""), ended(0, &[]));
    assert_eq!(run(&mut dsmq_at(addr, &["get", "t"]), ""), ended(0, &["Hello!"]));
}

#[test]
fn no_server_is_an_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    drop(taken);
    for args in [&["get", "t"][..], &["put", "t", "Hello!"], &["put", "t"]] {
        let client = run(&mut dsmq_at(addr, args), "");
        let stderr = format!("dsmq: no server at {addr}: start one with 'dsmq'\n");
        assert_eq!(client, Ended { code: Some(2), stdout: vec![], stderr });
    }
}

#[test]
fn what_is_not_understood_is_an_error() {
    for args in [
        &["dance"][..],
        &["get"],
        &["put"],
        &["get", "t", "--wait", "-1"],
        &["get", "t", "--wait", "soon"],
        &["get", "t", "--count", "0"],
        &["get", "t", "--latest", "--follow"],
    ] {
        assert_eq!(run(&mut dsmq(args), "").code, Some(2), "{args:?}");
    }
}

#[test]
fn a_get_without_a_wait_prints_what_is_there() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    assert_eq!(dsmq(&["get", "t"]), ended(1, &[]));
    for message in ["1", "2", "3"] {
        assert_eq!(dsmq(&["put", "t", message]), ended(0, &[]));
    }
    assert_eq!(dsmq(&["get", "t"]), ended(0, &["1"]));
    assert_eq!(dsmq(&["get", "t"]), ended(0, &["1"]));
    assert_eq!(dsmq(&["get", "t", "--count", "2"]), ended(0, &["1", "2"]));
    assert_eq!(dsmq(&["get", "t", "--count", "9"]), ended(0, &["1", "2", "3"]));
    assert_eq!(dsmq(&["get", "t", "--latest"]), ended(0, &["3"]));
    assert_eq!(dsmq(&["get", "t", "--wait", "0.01"]), ended(1, &[]));
    assert_eq!(dsmq(&["get", "t", "--follow", "--wait", "0.01"]), ended(1, &[]));
    assert_eq!(
        dsmq(&["get", "t", "--follow", "--since", "0", "--wait", "0.01"]),
        ended(0, &["1", "2", "3"])
    );
    assert_eq!(dsmq(&["get", "", "--wait", "1"]).code, Some(2));
}

#[test]
fn since_goes_on_behind_an_id() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let receipts = client.put_confirmed_batch("t", &["a", "b", "c"]).unwrap();
    let since = receipts[0].id.to_string();
    let get = run(&mut dsmq_at(server.addr(), &["get", "t", "--since", &since, "--meta"]), "");
    let (id, timestamp) = (receipts[1].id, receipts[1].timestamp);
    let line = format!(r#"{{"id":{id},"timestamp":{timestamp},"message":"b"}}"#);
    assert_eq!(get, ended(0, &[&line]));
}

#[test]
fn strings_are_printed_as_they_are_and_the_rest_as_json() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    let messages = [r#""a \"b\" \u00e9""#, "1.50", r#"{"b" :1}"#, "\"\"", "-5"];
    for message in messages {
        assert_eq!(dsmq(&["put", "t", "--json", message]), ended(0, &[]));
    }
    assert_eq!(dsmq(&["put", "t", "-5"]), ended(0, &[]));
    let shown = ["a \"b\" é", "1.50", r#"{"b" :1}"#, "", "-5", "-5"];
    assert_eq!(dsmq(&["get", "t", "--count", "9"]), ended(0, &shown));
    let json = ["\"a \\\"b\\\" \\u00e9\"", "1.50", r#"{"b" :1}"#, "\"\"", "-5", "\"-5\""];
    assert_eq!(dsmq(&["get", "t", "--count", "9", "--json"]), ended(0, &json));
    let wrong = dsmq(&["put", "t", "--json", "{oops"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.starts_with("dsmq: this is no JSON"), "{}", wrong.stderr);
}

#[test]
fn each_line_of_standard_input_is_a_message() {
    let server = server();
    let put = |args: &[&str], input: &str| run(&mut dsmq_at(server.addr(), args), input);
    let get = |topic| {
        let args = ["get", topic, "--json", "--count", "1000000"];
        run(&mut dsmq_at(server.addr(), &args), "").stdout
    };
    assert_eq!(put(&["put", "t"], "a\n\n b \r\nlast"), ended(0, &[]));
    assert_eq!(get("t"), ["\"a\"", "\"\"", "\" b \"", "\"last\""]);
    assert_eq!(put(&["put", "dash", "-", "--json"], "1.50\n{\"a\": [ ]}\n"), ended(0, &[]));
    assert_eq!(get("dash"), ["1.50", "{\"a\": [ ]}"]);
    assert_eq!(put(&["put", "empty"], ""), ended(0, &[]));
    assert_eq!(get("empty"), [""; 0]);

    let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    assert_eq!(put(&["put", "many", "--json"], &many.join("\n")), ended(0, &[]));
    assert_eq!(get("many"), many);
}

#[test]
fn a_wrong_line_is_named_and_those_before_it_are_stored() {
    let server = server();
    let put = run(&mut dsmq_at(server.addr(), &["put", "t", "--json"]), "1\n2\noops\n4\n");
    assert_eq!(put.code, Some(2));
    assert!(put.stderr.starts_with("dsmq: line 3: this is no JSON"), "{}", put.stderr);
    let get = run(&mut dsmq_at(server.addr(), &["get", "t", "--count", "9"]), "");
    assert_eq!(get, ended(0, &["1", "2"]));

    let deep = format!("1\n{}{}\n3\n", "[".repeat(200), "]".repeat(200));
    let put = run(&mut dsmq_at(server.addr(), &["put", "deep", "--json"]), &deep);
    assert_eq!(put.code, Some(2));
    assert!(put.stderr.starts_with("dsmq: line 2: "), "{}", put.stderr);
    assert!(put.stderr.ends_with("(too_deep)\n"), "{}", put.stderr);
}

#[test]
fn what_is_no_utf8_is_an_error() {
    let server = server();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "printf 'a\\n\\377\\n' | \"$0\" put t", env!("CARGO_BIN_EXE_dsmq")]);
    let put = run(shell.env("DSMQ_PORT", server.addr().port().to_string()), "");
    assert_eq!(put.code, Some(2));
    assert!(put.stderr.starts_with("dsmq: line 2: this is no UTF-8"), "{}", put.stderr);
}

#[test]
fn a_line_does_not_wait_for_the_next() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let mut put = Process::spawn(&mut dsmq_at(server.addr(), &["put", "t"]));
    for line in ["first", "second"] {
        put.write(&format!("{line}\nhalf a li"));
        let message = client.get_wait("t", Duration::from_secs(30)).unwrap().unwrap();
        assert!(message.text().unwrap().ends_with(line));
        put.write("ne\n");
        assert!(client.get_wait("t", Duration::from_secs(30)).unwrap().is_some());
    }
    assert_eq!(put.end(), ended(0, &[]));
}

#[test]
fn follow_prints_each_message_as_it_comes() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    client.put_confirmed("t", "before").unwrap();
    let args = ["get", "t", "--follow", "--since", "0", "--count", "4"];
    let mut get = Process::spawn(&mut dsmq_at(server.addr(), &args));
    assert_eq!(get.line(), "before");
    for message in ["one", "two"] {
        client.put("t", message).unwrap();
        assert_eq!(get.line(), message);
    }
    client.put("t", "three").unwrap();
    client.put("t", "too many").unwrap();
    assert_eq!(get.end(), ended(0, &["three"]));
}

#[test]
fn who_closes_the_pipe_has_seen_enough() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    client.put_batch("t", &vec!["x".repeat(100); 20_000]).unwrap();
    client.ping().unwrap();
    let args = ["get", "t", "--follow", "--since", "0"];
    let mut get = Process::spawn(&mut dsmq_at(server.addr(), &args));
    assert_eq!(get.line(), "x".repeat(100));
    get.close_stdout();
    assert_eq!(get.end(), ended(0, &[]));
}
