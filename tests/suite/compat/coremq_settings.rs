//! CoreMQ's settings: coremq.conf, replicants, the separate WebSocket listener, and the history
//! after a restart.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use dsmq::{Config, Server, StoreLocation};
use serde_json::json;

use super::coremq_frames::{Client, address, config, response};
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::server_with;
#[cfg(feature = "http")]
use crate::suite::wire::websocket;

fn conf(folder: &Folder, text: &str) -> PathBuf {
    let path = folder.path("coremq.conf");
    fs::write(&path, text).unwrap();
    path
}

fn with_conf(folder: &Folder, text: &str) -> Server {
    server_with(Config { coremq_conf: Some(conf(folder, text)), ..config() })
}

#[test]
fn allowed_replicants_receive_every_message() {
    let folder = Folder::new("coremq");
    let server = with_conf(&folder, "[CoreMQ]\nallowed_replicants = 192.0.2.1, localhost\n");
    let [mut replicant, mut sender] = [(); 2].map(|()| Client::connect(address(&server)));
    let wrong = replicant.ask(json!({ "coremq_replicant": ["name"] }));
    assert_eq!(wrong, response("ERROR: a replicant has a name"));
    let answer = replicant.ask(json!({ "coremq_replicant": "other" }));
    assert_eq!(answer, response("OK: Replication request successful"));
    let status = sender.ask(json!({ "coremq_status": 1 }));
    assert_eq!(status["replicants"], json!(["other"]));
    let sender_id = sender.id.clone();
    for queue in ["q", "r", "é", &sender_id] {
        sender.ask_at(queue, json!({ "for": queue }));
        let (got, message) = replicant.receive();
        assert_eq!((got.as_str(), &message["for"]), (queue, &json!(queue)));
    }
    // No frame can hold the first queue's name. A replicant does not receive its own messages.
    let mut json = Peer::connect(server.addr());
    json.send(r#"{"action":"put","topic":"a b","message":1}"#);
    replicant.ask_at("q", json!({}));
    sender.ask_at("last", json!({}));
    assert_eq!(replicant.receive().0, "last");
    drop(replicant);
    let mut other = Client::connect(address(&server));
    while other.ask(json!({ "coremq_status": 1 }))["replicants"] != json!([]) {}

    let server = with_conf(&folder, "[CoreMQ]\nallowed_replicants = 192.0.2.1\n");
    let answer = Client::connect(address(&server)).ask(json!({ "coremq_replicant": "other" }));
    assert_eq!(answer, response("ERROR: Not allowed to be a replicant"));
}

#[test]
fn coremq_conf_is_read_and_unused_keys_are_logged() {
    let folder = Folder::new("coremq");
    let text = "[CoreMQ]\naddress = 127.0.0.1\nport = 0\nlog_level = DEBUG\n\
                [CoreWS]\naddress = localhost\nport = 0\nlog_file = stdout\n";
    conf(&folder, text);
    let mut command = dsmq(&["--port", "0", "--coremq"]);
    command.current_dir(folder.path(".")).stderr(Stdio::piped());
    let (mut process, _) = Process::server(&mut command);
    let addr = process.address_of("coremq");
    assert!(addr.ip().is_loopback() && addr.port() != 6747);
    let mut client = Client::connect(addr);
    if cfg!(feature = "http") {
        process.address_of("coremq websocket");
    }
    let kill = std::process::Command::new("kill").arg(process.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert_eq!(client.answer(), response("BYE"));
    let ended = process.end();
    assert_eq!(ended.code, Some(0));
    for line in [
        "read CoreMQ's configuration file coremq.conf",
        "coremq.conf: log_level of [CoreMQ] is not used: --log sets what is logged",
        "coremq.conf: log_file of [CoreWS] is not used: the log goes to standard error",
    ] {
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
    }
}

#[test]
fn invalid_settings_are_reported_in_one_line() {
    let folder = Folder::new("coremq");
    let path = conf(&folder, "[CoreMQ]\ncluster_nodes = a, b\n");
    let path = path.to_str().unwrap();
    let cluster = format!(
        "dsmq: {path}, line 2: cluster_nodes must share their queues: start each with the same \
         --store redis://…, or remove the key and connect all programs to this server\n"
    );
    let alone = format!("dsmq: {path} needs --coremq: add that flag\n");
    let missing = "dsmq: cannot read none.conf: No such file or directory (os error 2)\n";
    for (args, line) in [
        (&["--coremq=0", "--coremq-conf", path][..], cluster.as_str()),
        (&["--coremq-conf", path], &alone),
        (&["--coremq=0", "--coremq-conf", "none.conf"], missing),
    ] {
        let ended = run(&mut dsmq(&[&["--port", "0"], args].concat()), "");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), line));
    }
}

#[test]
fn history_survives_a_restart_with_a_file() {
    let folder = Folder::new("coremq");
    let store = || StoreLocation::File(folder.path("queue.db"));
    let server = server_with(Config { store: store(), ..config() });
    let mut client = Client::connect(address(&server));
    let gone = client.id.clone();
    for number in 0..12 {
        client.ask_at("q", json!({ "number": number }));
    }
    client.ask_at(&gone, json!({ "to": "nobody" }));
    server.stop();
    let server = server_with(Config { store: store(), ..config() });
    let mut client = Client::connect(address(&server));
    let history = client.ask(json!({ "coremq_gethistory": ["q", gone] }));
    let messages = history["history"]["q"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["number"]), (10, &json!(2)));
    assert_eq!(history["history"].as_object().unwrap().len(), 1);
}

#[cfg(feature = "http")]
fn web(server: &Server) -> SocketAddr {
    server.addresses().find(|(name, _)| *name == "coremq websocket").unwrap().1
}

#[test]
#[cfg(feature = "http")]
fn websocket_and_frames_share_queues() {
    let folder = Folder::new("coremq");
    let server = with_conf(&folder, "[CoreWS]\nport = 0\n");
    let mut frames = Client::connect(address(&server));
    frames.subscribe(json!("q"));
    for addr in [server.addr(), web(&server)] {
        let mut socket = websocket::Client::connect(addr, "/ws");
        socket.send(r#"{"coremq_subscribe":"q"}"#);
        socket.send(r#"{"queue":"q","from":"socket"}"#);
        let answer = socket.receive_json();
        let id = answer["queue"].as_str().unwrap().to_owned();
        assert_eq!(answer["response"], "OK: Message sent");
        let (_, message) = frames.receive();
        let sent = (&message["from"], &message["coremq_sender"]);
        assert_eq!(sent, (&json!("socket"), &json!(id)));
        frames.ask_at("q", json!({ "from": "frames" }));
        let message = socket.receive_json();
        assert_eq!((&message["from"], &message["queue"]), (&json!("frames"), &json!("q")));
        assert_eq!(message["coremq_sender"], *frames.id);
        frames.ask_at(&id, json!({ "to": "socket" }));
        assert_eq!(socket.receive_json()["to"], "socket");
        let status = socket.ask(r#"{"corews_status":true}"#);
        let name = format!("{}:{}", frames.name, address(&server).port());
        assert_eq!(status, json!({ "connections": 2, "mq_server": name }).to_string());
        drop(socket);
        while frames.ask(json!({ "coremq_status": 1 }))["connections"] != 1 {}
    }
}

#[test]
#[cfg(feature = "http")]
fn separate_websocket_listener_serves_nothing_else() {
    let folder = Folder::new("coremq");
    let server = with_conf(&folder, "[CoreWS]\nport = 0\n");
    for path in ["/", "/q/x", "/t/x", "/stats"] {
        let mut peer = Peer::connect_silent(web(&server));
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(peer.receive_all().starts_with("HTTP/1.1 404 "), "{path}");
    }
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut peer = Peer::connect_silent(web(&server));
    peer.send(upgrade);
    assert!(peer.receive_all().starts_with("HTTP/1.1 404 "));
    let mut json = Peer::connect_silent(web(&server));
    json.send(r#"{"action":"ping"}"#);
    json.expect_end();
}
