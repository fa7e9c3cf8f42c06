//! Checks of Redis at the start of a server: unsuitable nodes are refused, and risky settings are
//! logged as warnings. Each is one line with the node's address.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::Redis;
use crate::suite::support::PATIENCE;
use crate::suite::support::folder::Folder;
use crate::suite::support::peer::Peer;
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::redis_cluster::{CALM, Cluster, Shape};

const MASTERS_ALONE: Shape = Shape { replicas: false, ..CALM };

/// A running `dsmq` with its log.
struct Started {
    _process: Process,
    addr: SocketAddr,
    log: PathBuf,
}

impl Started {
    fn new(folder: &Folder, flags: &[&str]) -> Started {
        let log = folder.path("dsmq.log");
        let mut command = dsmq(&["--port", "0"]);
        command.args(flags).stderr(File::create(&log).unwrap());
        let (process, addr) = Process::server(&mut command);
        Started { _process: process, addr, log }
    }

    /// The warnings logged so far.
    fn warnings(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
    }

    fn until_warned_of(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.warnings().iter().any(|line| line.contains(what)) {
            assert!(Instant::now() < deadline, "{:?}", self.warnings());
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

fn evict(cluster: &Cluster, node: usize) {
    let set = ["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"];
    let _: String = cluster.ask(node, &set).unwrap();
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_warns_of_each_master_that_evicts() {
    let folder = Folder::new("server");
    let cluster = Cluster::start(MASTERS_ALONE);
    let of_partition_0 = cluster.master_of(cluster.slot_of("{0}"));
    let evicting = cluster.masters().into_iter().find(|node| *node != of_partition_0).unwrap();
    evict(&cluster, evicting);
    let started = Started::new(&folder, &["--store", &cluster.url()]);
    let warnings = started.warnings();
    let address = format!("127.0.0.1:{} ", cluster.port(evicting));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&address) && warnings[0].contains("allkeys-lru"), "{warnings:?}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_warns_of_an_evicting_master_found_later() {
    let folder = Folder::new("server");
    let cluster = Cluster::start(MASTERS_ALONE);
    let slot = cluster.slot_of("{0}");
    let first = cluster.master_of(slot);
    let evicting = cluster.masters().into_iter().find(|node| *node != first).unwrap();
    evict(&cluster, evicting);
    let started = Started::new(&folder, &["--store", &(cluster.url() + "?parts=1")]);
    assert_eq!(started.warnings(), [""; 0], "it has no partition");
    cluster.move_slot(slot, evicting, || {});
    let mut peer = Peer::connect(started.addr);
    peer.send(r#"{"action":"put","topic":"t","message":1,"confirm":true}"#);
    started.until_warned_of(&format!("127.0.0.1:{} evicts keys", cluster.port(evicting)));
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_warns_of_too_few_replicas() {
    let (folder, redis) = (Folder::new("server"), Redis::start());
    let warnings = |replicas: &str| {
        let flags = ["--store", &redis.url(), "--redis-replicas", replicas];
        let started = Started::new(&folder, &flags);
        Peer::connect(started.addr).ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
        started.warnings()
    };
    assert_eq!(warnings("0"), [""; 0]);
    let logged = warnings("2");
    assert_eq!(logged.len(), 1, "{logged:?}");
    let socket = redis.socket();
    let names = format!("{} has 0 of the 2", socket.display());
    assert!(logged[0].contains(&names) && logged[0].contains("`unconfirmed`"), "{logged:?}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn server_warns_of_each_master_with_too_few_replicas() {
    let folder = Folder::new("server");
    let cluster = Cluster::start(CALM);
    let flags = ["--store", &cluster.url(), "--redis-replicas", "1"];
    assert_eq!(Started::new(&folder, &flags).warnings(), [""; 0]);
    let flags = ["--store", &cluster.url(), "--redis-replicas", "2"];
    let logged = Started::new(&folder, &flags).warnings();
    assert_eq!(logged.len(), 3, "{logged:?}");
    for master in cluster.masters() {
        let names = format!("127.0.0.1:{} has 1 of the 2", cluster.port(master));
        assert!(logged.iter().any(|line| line.contains(&names)), "{logged:?}");
    }
}

/// A proxy to a cluster node that reports an older version.
fn aged(port: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(node) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
            let (from, to) = (client.try_clone().unwrap(), node.try_clone().unwrap());
            thread::spawn(move || pump(from, to));
            thread::spawn(move || pump(node, client));
        }
    });
    own
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let said = b"redis_version:";
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if let Some(at) = bytes[..read].windows(said.len()).position(|window| window == said) {
            bytes[at + said.len()] = b'6';
        }
        if to.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn too_old_master_is_refused() {
    let cluster = Cluster::start(MASTERS_ALONE);
    let of_partition_0 = cluster.master_of(cluster.slot_of("{0}"));
    let old = cluster.masters().into_iter().find(|node| *node != of_partition_0).unwrap();
    let (url, port) = (cluster.url(), aged(cluster.port(old)));
    let set = ["CONFIG", "SET", "cluster-announce-port", &port.to_string()];
    let _: String = cluster.ask(old, &set).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // Gossip takes a while.
    let knows = |node: usize| {
        let logged: String = cluster.ask(node, &["CLUSTER", "NODES"]).unwrap();
        logged.contains(&format!(":{port}@"))
    };
    while !(0..3).all(knows) {
        assert!(Instant::now() < deadline, "nobody knows its port");
        thread::park_timeout(Duration::from_millis(10));
    }
    let ended = run(&mut dsmq(&["--port", "0", "--store", &url]), "");
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(
        ended.stderr.contains(&format!("127.0.0.1:{port} is too old: version 7.0")),
        "{ended:?}"
    );
}
