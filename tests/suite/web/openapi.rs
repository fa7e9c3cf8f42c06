//! Checks docs/openapi.json against a running server with schemathesis.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::http::{ask, get};
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::server;

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/schemathesis.toml");

/// Parameters that start a stream or a wait: such a request has no prompt response.
const ENDLESS: [&str; 6] = ["topic", "wait", "from", "since", "lastEventId", "Last-Event-ID"];

/// Removes parameters that make a response endless. The `since` of pages stays.
fn without_streams(description: &mut Value) {
    for (path, item) in description["paths"].as_object_mut().unwrap() {
        for operation in item.as_object_mut().unwrap().values_mut().filter(|o| o.is_object()) {
            let Some(parameters) = operation.get_mut("parameters") else { continue };
            parameters.as_array_mut().unwrap().retain(|parameter| {
                let name = parameter["name"].as_str();
                let reference = parameter["$ref"].as_str().and_then(|to| to.rsplit('/').next());
                let name = name.or(reference).unwrap();
                !ENDLESS.contains(&name) || (name == "since" && path != "/t/")
            });
        }
    }
}

#[test]
#[ignore = "needs Python with schemathesis from PyPI: make test installs it"]
fn server_conforms_to_its_openapi_document() {
    let python = std::env::var_os("DSMQ_TEST_PYTHON")
        .expect("DSMQ_TEST_PYTHON names a Python that has schemathesis: make test sets it");
    let server = server();
    let mut peer = Peer::connect_silent(server.addr());
    let mut description: Value =
        serde_json::from_str(&ask(&mut peer, get("/openapi.json")).body).unwrap();
    without_streams(&mut description);
    let folder = Folder::new("openapi");
    let path = folder.path("openapi.json");
    fs::write(&path, description.to_string()).unwrap();
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli", "--no-color", "--config-file", CONFIGURATION, "run"])
        .arg(&path)
        .args(["--url", &format!("http://{}", server.addr())])
        .args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{errors}");
    let operations = description["paths"].as_object().unwrap().values();
    let methods = ["get", "post", "delete"];
    let count = operations.flat_map(|o| methods.iter().filter(|m| o.get(**m).is_some())).count();
    assert!(stdout.contains(&format!("Tested: {count}\n")), "{stdout}");
}
