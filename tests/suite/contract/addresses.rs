//! addresses.txt: the ports that a server takes by default, and what each key of coremq.conf and
//! O3one.yaml does. Each server has a loopback address of its own, where all ports are free.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;

use crate::suite::compat::coremq_frames::Client;
use crate::suite::compat::o3one::{answer, connect, request};
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::process::{Process, dsmq};

use super::golden;

/// What every O3one.yaml here has, so that only the rest makes a difference.
const FREE: &str = "port_pub: 0\nport_sub: 0\nport_ws: 0\ndashboard_port: 0\n";

/// The ports that programs expect. Any other is one that the system chose.
const EXPECTED: [u16; 8] = [30008, 6747, 5555, 5556, 8765, 9000, 7201, 7202];

/// Lines of coremq.conf.
const COREMQ: [&str; 13] = [
    "",
    "[CoreMQ]",
    "[CoreMQ] address = 127.0.0.1 | port = 0",
    "[CoreMQ] port = 0",
    "[CoreMQ] log_file = stdout | log_level = DEBUG",
    "[CoreMQ] allowed_replicants = 192.0.2.1, localhost",
    "[CoreMQ] cluster_nodes = ",
    "[CoreMQ] cluster_nodes = a, b",
    "[CoreMQ] colour = red",
    "[CoreWS] address = 127.0.0.1 | port = 0",
    "[CoreWS] log_file = x | log_level = INFO",
    "[DEFAULT] port = 0 | [CoreWS]",
    "[Other] port = 7",
];

/// Lines of O3one.yaml.
const O3ONE: [&str; 18] = [
    "",
    "ack_rep: thanks",
    "persist_enabled: yes",
    "mmap_enabled: no",
    "persist_enabled: yes | mmap_enabled: no",
    "dashboard_enabled: no",
    "dashboard_enabled: yes",
    "priority_enabled: no",
    "priority_enabled: yes",
    "db_path: ./elsewhere/",
    "mmap_path: ./db/mapped/",
    "mmap_file: o3.mq",
    "log_path: ./logs/",
    "default_connect_timeout: 5",
    "hostname: 127.9.9.9",
    "colour: blue",
    "port_pub: x",
    "mmap_enabled: maybe",
];

#[test]
fn default_ports_and_keys_of_files() {
    let folder = Folder::new("contract-addresses");
    let args = ["--coremq", "--o3one", "--mezzenger"];
    let mut lines = vec![match Server::start(&folder, &["--host", &host()], &args) {
        Ok(server) => format!("{} -> {}", args.join(" "), server.stop()),
        Err(code) => panic!("exit code {code:?}: see {}", folder.path("log").display()),
    }];
    for text in COREMQ {
        lines.push(format!("coremq.conf: {text} -> {}", coremq(text)));
    }
    for text in O3ONE {
        lines.push(format!("O3one.yaml: {text} -> {}", o3one(text)));
    }
    golden::check("addresses.txt", &lines);
}

/// What becomes of these lines of a coremq.conf, and whether a replicant may come.
fn coremq(text: &str) -> String {
    let folder = Folder::new("contract-coremq");
    fs::write(folder.path("coremq.conf"), lines_of(&text.replace("] ", "]\n"))).unwrap();
    let args = ["--port", "0", "--coremq"];
    let mut server = match Server::start(&folder, &["--host", &host()], &args) {
        Ok(server) => server,
        Err(code) => return format!("exit code {code}"),
    };
    let mut client = Client::connect(server.next());
    let replicant = client.ask(json!({ "coremq_replicant": "other" }))["response"].take();
    format!("{}; {}", server.stop(), replicant.as_str().unwrap())
}

/// What becomes of these lines of an O3one.yaml: what a publication is answered and how it is read,
/// and where messages are kept.
fn o3one(text: &str) -> String {
    let folder = Folder::new("contract-o3one");
    let free = FREE.lines().filter(|line| !text.contains(line.split(':').next().unwrap()));
    let yaml = lines_of(text) + &free.map(|line| format!("{line}\n")).collect::<String>();
    fs::write(folder.path("O3one.yaml"), yaml).unwrap();
    let args = ["--port", "0", "--o3one-conf", "O3one.yaml"];
    let mut server = match Server::start(&folder, &[], &args) {
        Ok(server) => server,
        Err(code) => return format!("exit code {code}"),
    };
    let (_, publishers) = (server.next(), server.next());
    let mut publisher = connect(publishers, "REQ");
    publisher.send(request("o3 9 a"));
    let ack = answer(&mut publisher);
    let mut json = Peer::connect(server.addresses[0].0);
    let taken = ask(&mut json, &json!({ "action": "take", "topic": "o3" }));
    let stats = ask(&mut json, &json!({ "action": "stats" }));
    let files = ["db/dsmq.db", "elsewhere/dsmq.db"];
    let kept = files.into_iter().find(|file| folder.path(file).exists()).unwrap_or("no file");
    let store = &stats["stats"]["store"];
    let addresses = server.stop();
    format!("{addresses}; answer {ack:?}, message {}, store {store}, {kept}", taken["message"])
}

/// Lines of a file, which stand here with bars between them.
fn lines_of(text: &str) -> String {
    text.replace(" | ", "\n") + "\n"
}

/// A loopback address at which no other test, of this run or another, has a server.
fn host() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(20);
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{}", NEXT.fetch_add(1, Ordering::Relaxed), low.clamp(1, 254))
}

/// A server and the addresses that it has printed so far.
struct Server {
    process: Process,
    addresses: Vec<(SocketAddr, String)>,
    host: String,
}

impl Server {
    /// Starts it in a folder, or tells its exit code.
    fn start(folder: &Folder, host: &[&str], args: &[&str]) -> Result<Server, i32> {
        let mut command = dsmq(&[host, args].concat());
        command.current_dir(folder.path("")).stderr(folder.output("log"));
        let mut process = Process::spawn(&mut command);
        let Some(first) = process.next_address() else { return Err(process.end().code.unwrap()) };
        let host = host.last().copied().unwrap_or("127.0.0.1").to_owned();
        Ok(Server { process, addresses: vec![first], host })
    }

    /// The next address that it prints.
    fn next(&mut self) -> SocketAddr {
        let next = self.process.next_address().unwrap();
        self.addresses.push(next.clone());
        next.0
    }

    /// Stops it, and tells all its addresses.
    fn stop(mut self) -> String {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.addresses.extend(std::iter::from_fn(|| self.process.next_address()));
        assert_eq!(self.process.end().code, Some(0));
        let shown = self.addresses.iter().map(|(addr, spoken)| {
            let host = addr.ip().to_string();
            let host = if host == self.host { "HOST" } else { &host };
            match EXPECTED.contains(&addr.port()) {
                true => format!("{host}:{} {spoken}", addr.port()),
                false => format!("{host}:FREE {spoken}"),
            }
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}
