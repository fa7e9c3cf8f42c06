//! TLS between a server and its Redis: the certificate is verified.

use std::process::{Command, Stdio};

use super::Redis;
use super::refused::refused;
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::redis_cluster::free_port;

/// A self-signed certificate for localhost.
fn certificate(folder: &Folder) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(folder.path("key"))
        .arg("-out")
        .arg(folder.path("certificate"))
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl").success());
}

#[test]
#[ignore = "needs redis-server and openssl: make test runs it"]
fn tls_requires_a_trusted_certificate() {
    let folder = Folder::new("tls");
    certificate(&folder);
    let port = free_port().to_string();
    let flags = [
        ["--tls-port", &port],
        ["--tls-cert-file", &folder.path("certificate").display().to_string()],
        ["--tls-key-file", &folder.path("key").display().to_string()],
        ["--tls-auth-clients", "no"],
        ["--save", ""],
    ];
    let flags = flags.as_flattened().iter().map(|flag| flag.to_string()).collect();
    let _redis = Redis::start_with(flags);
    let url = format!("rediss://localhost:{port}");
    let server = || dsmq(&["--port", "0", "--log", "error", "--store", &url]);

    let ended = run(&mut server(), "");
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{ended:?}");
    assert!(ended.stderr.contains("SSL_CERT_FILE"), "{ended:?}");

    refused(&format!("redis://localhost:{port}"), "use rediss:// if it requires TLS");

    let mut trusting = server();
    let (_server, addr) =
        Process::server(trusting.env("SSL_CERT_FILE", folder.path("certificate")));
    let mut peer = Peer::connect(addr);
    peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
    assert_eq!(peer.receive_reply()["ok"], true);
    peer.ask(r#"{"action":"get","topic":"t"}"#, r#"{"message":1}"#);
}
