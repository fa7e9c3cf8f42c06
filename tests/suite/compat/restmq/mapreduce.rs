//! The Map/Reduce example: several counters and one that sums up.

use std::fs;
use std::process::Command;

use crate::suite::support::process::{Process, run};
use crate::suite::support::server;

fn example(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/restmq_mapreduce.py"));
    command.args(["--url", url]).args(args);
    command
}

#[test]
fn words_are_counted_in_parts_and_summed_up() {
    let server = server();
    let url = format!("http://{}", server.addr());
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let parts = [part("a", "the cat the dog\n"), part("b", "a cat & the é\n"), part("c", "")];
    // Mapped results wait until a reducer starts.
    let mapped = run(&mut example(&url, &["map", &parts[0]]), "");
    assert_eq!((mapped.code, mapped.stderr.as_str()), (Some(0), ""));
    assert_eq!(mapped.stdout, [format!("sent: {}: 4 words", parts[0])]);
    let mut reducer = Process::spawn(&mut example(&url, &["reduce", "--count", "3", "--top", "2"]));
    assert_eq!(reducer.line(), format!("file: {}: 4 words", parts[0]));
    let mapped = run(&mut example(&url, &["map", &parts[1], &parts[2]]), "");
    assert_eq!((mapped.code, mapped.stderr.as_str()), (Some(0), ""));
    let reduced = reducer.end();
    let expected = [
        format!("file: {}: 5 words", parts[1]),
        format!("file: {}: 0 words", parts[2]),
        "total: 9 words in 3 files".into(),
        "the: 3".into(),
        "cat: 2".into(),
    ];
    assert_eq!((reduced.code, &reduced.stdout[..]), (Some(0), &expected[..]));
}
