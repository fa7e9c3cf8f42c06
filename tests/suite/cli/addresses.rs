//! A server's further addresses: how it tells of them, what happens if one is taken, and their end.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use dsmq::Config;

use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Ended, Process, dsmq, run};
use crate::suite::support::{PATIENCE, server, server_with};

const MAIN: &str = if cfg!(feature = "http") { "json, http" } else { "json" };

/// O3one's addresses, with the page last.
const O3ONE: &[&str] = if cfg!(feature = "http") {
    &["o3one pub", "o3one sub", "o3one ws", "o3one page"]
} else {
    &["o3one pub", "o3one sub"]
};

fn can_be_listened_on(addr: SocketAddr) -> bool {
    TcpListener::bind(addr).is_ok()
}

#[test]
fn each_address_has_its_line() {
    let (mut process, main) = Process::server(&mut dsmq(&["--port", "0", "--o3one=0,0,0,0"]));
    let further: Vec<_> = O3ONE.iter().map(|name| process.address_of(name)).collect();
    let mut peer = Peer::connect(main);
    for &addr in &further {
        assert!(addr.ip().is_loopback() && addr.port() > 0 && addr != main, "{addr}");
        TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    }
    let kill = Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(kill.success());
    peer.expect_end();
    assert_eq!(process.end(), Ended { code: Some(0), stdout: vec![], stderr: String::new() });
    assert!(further.into_iter().all(can_be_listened_on));
}

#[test]
fn a_server_in_a_program_names_its_addresses_and_stops_them_all() {
    let only = server();
    assert_eq!(only.addresses().collect::<Vec<_>>(), [(MAIN, only.addr())]);

    let server = server_with(Config { o3one: Some([0, 0, 0].into()), ..Config::default() });
    let (names, addrs): (Vec<_>, Vec<_>) = server.addresses().unzip();
    assert_eq!(names, [&[MAIN], &O3ONE[..O3ONE.len().min(3)]].concat());
    assert_eq!(addrs[0], server.addr());
    server.stop();
    assert!(addrs.into_iter().all(can_be_listened_on));
}

#[test]
fn a_further_port_in_use_is_one_clear_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = [
        format!("{port},0,0"),
        format!("0,{port},0"),
        format!("0,0,{port}"),
        format!("0,0,0,{port}"),
    ];
    for ports in ports.iter().take(O3ONE.len()) {
        let ended = run(&mut dsmq(&["--port", "0", &format!("--o3one={ports}")]), "");
        let line = format!(
            "dsmq: 127.0.0.1:{port} is in use by another program: stop it, or choose other ports \
             with --o3one=PUB,SUB,WS\n"
        );
        assert_eq!(ended, Ended { code: Some(1), stdout: vec![], stderr: line });
    }
    let coremq = format!("--coremq={port}");
    let ended = run(&mut dsmq(&["--port", "0", &coremq, "--log", "off"]), "");
    let line = format!(
        "dsmq: 127.0.0.1:{port} is in use by another program: stop it, or choose another port with \
         --coremq=PORT\n"
    );
    assert_eq!(ended, Ended { code: Some(1), stdout: vec![], stderr: line });
}

#[test]
fn all_addresses_share_the_places_for_connections() {
    let config = Config { max_connections: 1, o3one: Some([0, 0, 0].into()), ..Config::default() };
    let server = server_with(config);
    let mut served = Peer::connect(server.addr());
    for (_, addr) in server.addresses().skip(1) {
        // Nothing can be said to it in its own words.
        Peer::connect_silent(addr).expect_end();
    }
    served.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
}
