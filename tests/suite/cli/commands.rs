//! The `dsmq` command as a user meets it: what it prints, and how it ends.

use std::net::TcpListener;
use std::time::Duration;

use dsmq::Client;

use crate::suite::support::process::{Ended, Process, dsmq, dsmq_at, run};
use crate::suite::support::server;

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
fn verbose_version_names_sqlite_and_its_flag() {
    let first = concat!("dsmq ", env!("CARGO_PKG_VERSION"));
    for flags in [["--version", "--verbose"], ["--verbose", "--version"], ["-V", "--verbose"]] {
        let told = run(&mut dsmq(&flags), "");
        assert_eq!((told.code, told.stdout.len(), told.stderr.as_str()), (Some(0), 2, ""));
        assert_eq!(told.stdout[0], first);
        let sqlite = &told.stdout[1];
        assert!(
            sqlite.starts_with("SQLite 3.") && sqlite.ends_with(", DEFAULT_MEMSTATUS=0"),
            "{sqlite}"
        );
    }
    assert_eq!(run(&mut dsmq(&["--verbose"]), "").code, Some(2));
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
    for args in [
        &["get", "t"][..],
        &["put", "t", "Hello!"],
        &["put", "t"],
        &["take", "t"],
        &["ack", "t", "1", "1"],
        &["nack", "t", "1", "1"],
        &["sub", "t"],
        &["history", "t"],
        &["topics"],
        &["stats"],
        &["purge", "t"],
    ] {
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
        &["put", "t", "m", "--priority", "10"],
        &["put", "t", "--dedupe", "key"],
        &["take", "t", "--lease", "-1"],
        &["ack", "t", "1"],
        &["sub"],
        &["sub", "t", "--from", "-0"],
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
    assert!(wrong.stderr.starts_with("dsmq: not JSON"), "{}", wrong.stderr);
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
    assert!(put.stderr.starts_with("dsmq: line 3: not JSON"), "{}", put.stderr);
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
    assert!(put.stderr.starts_with("dsmq: line 2: not UTF-8"), "{}", put.stderr);
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

#[test]
fn a_take_removes_what_it_prints() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    assert_eq!(dsmq(&["take", "t"]), ended(1, &[]));
    assert_eq!(dsmq(&["take", "t", "--wait", "0.01"]), ended(1, &[]));
    dsmq(&["put", "t", "wash up"]);
    dsmq(&["put", "t", "tidy up"]);
    dsmq(&["put", "t", "put out the fire", "--priority", "9"]);
    dsmq(&["put", "t", "--json", "[1 ]"]);
    assert_eq!(dsmq(&["take", "t"]), ended(0, &["put out the fire"]));
    assert_eq!(dsmq(&["take", "t", "--json"]), ended(0, &["\"wash up\""]));
    assert_eq!(dsmq(&["take", "t", "--count", "9"]), ended(0, &["tidy up", "[1 ]"]));
    assert_eq!(dsmq(&["get", "t"]), ended(1, &[]));
}

#[test]
fn a_take_waits() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let mut take =
        Process::spawn(&mut dsmq_at(server.addr(), &["take", "t", "--wait", "60", "--count", "2"]));
    for message in ["first", "second"] {
        client.put("t", message).unwrap();
        assert_eq!(take.line(), message);
    }
    assert_eq!(take.end(), ended(0, &[]));
}

#[test]
fn a_lease_is_ended_by_what_the_take_printed() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    dsmq(&["put", "t", "wash up"]);
    let take = || {
        let take = dsmq(&["take", "t", "--lease", "60"]);
        assert_eq!(take.code, Some(0), "{take:?}");
        let [id, deliveries, message] = take.stdout[0].split('\t').collect::<Vec<_>>()[..] else {
            panic!("{take:?}");
        };
        assert_eq!(message, "wash up");
        (id.to_owned(), deliveries.to_owned())
    };
    let (id, deliveries) = take();
    assert_eq!(deliveries, "1");
    assert_eq!(dsmq(&["take", "t"]), ended(1, &[]));
    assert_eq!(dsmq(&["nack", "t", &id, &deliveries]), ended(0, &[]));
    let late = dsmq(&["ack", "t", &id, &deliveries]);
    assert_eq!((late.code, &late.stdout[..]), (Some(2), &[][..]));
    assert!(late.stderr.ends_with("(gone)\n"), "{}", late.stderr);

    let (again, deliveries) = take();
    assert_eq!((again.as_str(), deliveries.as_str()), (id.as_str(), "2"));
    assert_eq!(dsmq(&["nack", "t", &id, "2", "--delay", "0.01"]), ended(0, &[]));
    let take = dsmq(&["take", "t", "--lease", "60", "--wait", "60", "--meta"]);
    let line: serde_json::Value = serde_json::from_str(&take.stdout[0]).unwrap();
    assert_eq!((&line["id"].to_string(), &line["deliveries"].to_string()), (&id, &"3".to_owned()));
    assert_eq!(line["message"], "wash up");
    assert_eq!(dsmq(&["ack", "t", &id, "3"]), ended(0, &[]));
    assert_eq!(dsmq(&["history", "t"]), ended(1, &[]));
}

/// The loop that `dsmq take --help` shows.
#[test]
fn a_shell_worker_does_every_job() {
    let help = run(&mut dsmq(&["take", "--help"]), "").stdout;
    let worker = help.iter().skip_while(|line| !line.trim().starts_with("while "));
    let worker: Vec<_> = worker.take_while(|line| !line.is_empty()).cloned().collect();
    let worker = worker.join("\n").replace("--wait 3600", "--wait 0.01").replace("work ", "echo ");
    assert!(worker.ends_with("done"), "{worker}");

    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    client.put_batch("jobs", &["wash up", "tidy up"]).unwrap();
    client.ping().unwrap();
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &format!("dsmq() {{ \"$0\" \"$@\"; }}\n{worker}")]);
    bash.arg(env!("CARGO_BIN_EXE_dsmq")).env("DSMQ_PORT", server.addr().port().to_string());
    assert_eq!(run(&mut bash, ""), ended(0, &["wash up", "tidy up"]));
    assert_eq!(client.peek("jobs").unwrap(), None);
}

#[test]
fn options_of_a_put() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    for message in ["first", "second"] {
        assert_eq!(dsmq(&["put", "t", message, "--dedupe", "key"]), ended(0, &[]));
    }
    assert_eq!(dsmq(&["put", "t", "short-lived", "--ttl", "0"]), ended(0, &[]));
    assert_eq!(dsmq(&["put", "t", "late", "--delay", "3600"]), ended(0, &[]));
    assert_eq!(dsmq(&["history", "t"]), ended(0, &["first"]));
    let put = run(&mut dsmq_at(server.addr(), &["put", "t", "--priority", "0"]), "a\nb\n");
    assert_eq!(put, ended(0, &[]));
    assert_eq!(dsmq(&["history", "t", "--limit", "2", "--json"]), ended(0, &["\"a\"", "\"b\""]));
}

#[test]
fn a_subscription_prints_a_line_a_message() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let a = client.put_confirmed("a", "before").unwrap();
    let args = ["sub", "a", "--from", "oldest", "--count", "3"];
    let mut sub = Process::spawn(&mut dsmq_at(server.addr(), &args));
    assert_eq!(sub.line(), "before");
    for message in ["one", "two"] {
        client.put("a", message).unwrap();
        assert_eq!(sub.line(), message);
    }
    assert_eq!(sub.end(), ended(0, &[]));

    client.put_confirmed("b", &1.5).unwrap();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    assert_eq!(
        dsmq(&["sub", "a", "b", "--from", "-1", "--wait", "0.05"]),
        ended(0, &["a\ttwo", "b\t1.5"])
    );
    assert_eq!(dsmq(&["sub", "*", "--from", "oldest", "--count", "1"]), ended(0, &["a\tbefore"]));
    let since = a.id.to_string();
    assert_eq!(dsmq(&["sub", "a", "--from", &since, "--count", "1"]), ended(0, &["one"]));
    client.put("lines", "one\ntwo").unwrap();
    client.put_confirmed("lines", "\u{1b}[2J").unwrap();
    let lines = dsmq(&["sub", "lines", "--from", "oldest", "--count", "2"]);
    assert_eq!(lines, ended(0, &[r#""one\ntwo""#, r#""\u001b[2J""#]));
    let json = dsmq(&["sub", "a", "--from", "oldest", "--count", "1", "--json"]);
    let (id, timestamp) = (a.id, a.timestamp);
    let line = format!(r#"{{"id":{id},"timestamp":{timestamp},"topic":"a","message":"before"}}"#);
    assert_eq!(json, ended(0, &[&line]));
    assert_eq!(dsmq(&["sub", "a", "--wait", "0.01"]), ended(1, &[]));
}

#[test]
fn topics_are_a_table_or_json() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    assert_eq!(dsmq(&["topics"]), ended(1, &[]));
    dsmq(&["put", "a long name", "message"]);
    dsmq(&["put", "b", "message"]);
    dsmq(&["put", "b", "message", "--delay", "3600"]);
    let table = dsmq(&["topics"]);
    assert_eq!((table.code, table.stdout.len()), (Some(0), 3), "{table:?}");
    let words = |line: usize| table.stdout[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0)[..3], ["TOPIC", "LENGTH", "BYTES"]);
    assert_eq!(words(2)[..5], ["b", "1", "9", "0", "1"]);
    assert!(table.stdout.iter().all(|line| line.len() == table.stdout[0].len()), "{table:?}");

    let json = dsmq(&["topics", "--json"]);
    let topic: serde_json::Value = serde_json::from_str(&json.stdout[1]).unwrap();
    assert_eq!(
        (&topic["topic"], &topic["length"], &topic["delayed"]),
        (&"b".into(), &1.into(), &1.into())
    );
    assert_eq!(dsmq(&["purge", "b"]), ended(0, &["2"]));
    assert_eq!(dsmq(&["purge", "b"]), ended(1, &["0"]));
}

#[test]
fn stats_tell_of_the_server() {
    let server = server();
    let dsmq = |args: &[&str]| run(&mut dsmq_at(server.addr(), args), "");
    dsmq(&["put", "t", "message"]);
    let json = dsmq(&["stats", "--json"]);
    assert_eq!((json.code, json.stdout.len()), (Some(0), 1), "{json:?}");
    let stats: serde_json::Value = serde_json::from_str(&json.stdout[0]).unwrap();
    assert_eq!((&stats["puts"], &stats["messages"]), (&1.into(), &1.into()));
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    let table = dsmq(&["stats"]);
    let puts = table.stdout.iter().find(|line| line.starts_with("puts")).unwrap();
    assert_eq!(puts.split_whitespace().collect::<Vec<_>>(), ["puts", "1"]);
}
