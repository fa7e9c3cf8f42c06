//! Runs every command of docs/reference/restmq.md with curl, which connects to the test server in
//! place of port 8888.

use std::fs;
use std::process::Command;

use crate::suite::support::peer::ErrorTexts;
use crate::suite::support::process::run;
use crate::suite::support::server;

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/restmq.md"));

/// The commands of a block with their documented output.
fn commands(block: &str) -> Vec<(&str, String)> {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, String::new())),
            (None, Some((_, shows))) => *shows += &format!("{line}\n"),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    commands
}

/// Runs every command of a document.
pub fn run_all(document: &str, texts: ErrorTexts) {
    let mut ran = 0;
    for block in document.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let server = server();
        let home = tempfile::tempdir().unwrap();
        let at = format!("silent\nconnect-to = \"localhost:8888:{}\"\n", server.addr());
        fs::write(home.path().join(".curlrc"), at).unwrap();
        for (command, shows) in commands(block) {
            let mut shell = Command::new("sh");
            let shell = shell.env("CURL_HOME", home.path()).env_remove("http_proxy");
            let ended = run(shell.args(["-c", command]), "");
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{command}");
            let mut shown = ended.stdout.join("\n");
            shown.push_str(if shown.is_empty() { "" } else { "\n" });
            assert_eq!(texts.shown(&shown), texts.shown(&shows), "{command}");
            ran += 1;
        }
    }
    assert!(ran > 20, "only {ran} commands were found in the document");
}

#[test]
fn every_command_prints_the_documented_output() {
    run_all(DOCUMENT, ErrorTexts::Compared);
}
