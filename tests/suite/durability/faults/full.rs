//! The disk is full: puts are refused with `full`, stored messages are still delivered, and puts
//! work again when there is space.

use std::fs::{self, File};
use std::net::SocketAddr;

use serde_json::Value;

use super::Home;
use super::disk::SmallDisk;
use crate::suite::durability::ledger::{JOBS, KEPT, Ledger, With, put_request};
use crate::suite::support::line::Line;

/// The maximum size of a file in bytes.
const ROOM: i64 = 3 << 20;

/// The approximate size of a message in bytes.
const MESSAGE: usize = 3_000;

/// More messages than fit.
const TOO_MANY: usize = 10_000;

#[test]
fn file_at_its_size_limit_refuses_puts() {
    let home = Home::new();
    home.shim.limit(ROOM);
    let (server, addr) = home.start_on_shim().unwrap();
    let mut client = Client::connect(addr);
    client.fill();
    client.check_takes_while_full();
    home.shim.limit(0);
    client.check_recovery();
    drop(server);
    assert!(home.shim.counts().injected > 0);
    check(&home, &client);
}

#[test]
fn full_file_system_refuses_puts_until_it_has_space() {
    let home = Home::new();
    let log = File::create(home.errors()).unwrap();
    let disk = SmallDisk::start(&home.shim.beside("disk"), 4 << 10, &["--log", "error"], log);
    let Some(disk) = disk else { return };
    fs::write(disk.path("ballast"), vec![0; 1 << 20]).unwrap();
    let mut client = Client::connect(disk.addr);
    client.fill();
    client.check_takes_while_full();
    fs::remove_file(disk.path("ballast")).unwrap();
    client.check_recovery();
    disk.kill_and_copy_to(&home.shim.folder());
    check(&home, &client);
}

/// Checks that the next server has every confirmed message.
fn check(home: &Home, client: &Client) {
    home.shim.clear();
    let (_server, addr) = home.start();
    let (_, faults) = client.ledger.check(addr, 0);
    assert_eq!(faults, []);
    let said = home.stderr();
    assert!(!said.contains("panicked"), "{said}");
}

struct Client {
    line: Line,
    ledger: Ledger,
    number: usize,
}

impl Client {
    fn connect(addr: SocketAddr) -> Client {
        Client { line: Line::connect(addr), ledger: Ledger::default(), number: 0 }
    }

    fn ask(&mut self, request: &str) -> Value {
        self.line.send(request).unwrap();
        self.line.reply().expect("the server answers")
    }

    fn put(&mut self) -> Value {
        self.number += 1;
        let topic = if self.number.is_multiple_of(2) { KEPT } else { JOBS };
        let key = format!("client-{}", self.number);
        let put = self.ledger.sent(topic, key.clone(), With::Nothing, 0);
        let reply = self.ask(&put_request(topic, &key, With::Nothing, MESSAGE));
        if reply["ok"] == true {
            self.ledger.confirmed(put, reply["id"].as_u64(), 0);
        }
        reply
    }

    /// Puts until there is no space, and some more.
    fn fill(&mut self) {
        let refused = (0..TOO_MANY).map(|_| self.put()).find(|reply| reply["ok"] != true);
        let refused = refused.expect("the disk is full at some time");
        assert_eq!(refused["code"], "full", "{refused}");
        for _ in 0..20 {
            let reply = self.put();
            assert!(reply["ok"] == true || reply["code"] == "full", "{reply}");
        }
        println!("{} messages were confirmed", self.ledger.confirmed_by(0));
    }

    /// Checks that stored messages are delivered while puts are refused.
    fn check_takes_while_full(&mut self) {
        let get = format!(r#"{{"action":"get","topic":"{KEPT}","since":0,"meta":true}}"#);
        assert!(self.ask(&get)["id"].is_u64());
        let (taken, acked) = self.take_and_ack(20);
        println!("{taken} of 20 takes and {acked} acks were carried out on the full disk");
    }

    /// Returns the numbers of takes and acks. The others must be refused with `full`.
    fn take_and_ack(&mut self, most: usize) -> (usize, usize) {
        let take = format!(r#"{{"action":"take","topic":"{JOBS}","lease":86400}}"#);
        let (mut taken, mut acked) = (0, 0);
        for _ in 0..most {
            let reply = self.ask(&take);
            let Some(id) = reply["id"].as_u64() else {
                assert_eq!(reply["code"], "full", "{reply}");
                continue;
            };
            taken += 1;
            let lease = self.ledger.leased(id, 0);
            self.ledger.ack_sent(lease, 0);
            let ack = r#"{"action":"ack","topic":"#;
            let reply = self.ask(&format!(r#"{ack}"{JOBS}","id":{id},"deliveries":1}}"#));
            if reply["ok"] == true {
                acked += 1;
                self.ledger.acked(lease, 0);
            } else {
                assert_eq!(reply["code"], "full", "{reply}");
            }
        }
        (taken, acked)
    }

    /// Checks that everything works again on the same connection.
    fn check_recovery(&mut self) {
        for _ in 0..50 {
            let reply = self.put();
            assert_eq!(reply["ok"], true, "{reply}");
        }
        assert_eq!(self.take_and_ack(10), (10, 10));
    }
}
