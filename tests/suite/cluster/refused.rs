//! Mistakes in the configuration of Redis: each stops the server soon, with one line that says
//! what to do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::{Redis, words};
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::redis_cluster::{CALM, Cluster, Shape, free_port};
use crate::suite::support::server;

/// Asserts that a server over this store ends with one line that contains this text.
pub fn refused(url: &str, text: &str) {
    let ended = run(&mut dsmq(&["--port", "0", "--log", "warn", "--store", url]), "");
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with("dsmq: cannot open the store: redis"), "{ended:?}");
    assert!(ended.stderr.contains(text) && !ended.stderr.contains("secret"), "{text}: {ended:?}");
}

/// The URL of a new user with these rights and the password `secret`.
fn user(redis: &Redis, name: &str, rights: &str) -> String {
    let set = ["ACL", "SETUSER", name, "on", ">secret"];
    let set: Vec<&str> = set.into_iter().chain(rights.split(' ')).collect();
    assert_eq!(redis.ask(&set).trim(), "OK");
    format!("{}?user={name}&pass=secret", redis.url())
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn missing_rights_are_named() {
    let redis = Redis::start();
    // The rights that docs/reference/redis.md lists are sufficient.
    let enough = user(&redis, "enough", "~dsmq:* &dsmq:* +@all -@dangerous");
    let (_server, _) = Process::server(&mut dsmq(&["--port", "0", "--store", &enough]));
    for (name, rights, text) in [
        ("prefix", "~other:* &* +@all", "keys"),
        ("channel", "~* resetchannels +@all", "channels"),
        ("put", "~* &* +@all -xadd", "XADD on dsmq:{0}:*"),
        ("scripts", "~* &* +@all -evalsha", "evalsha"),
        ("load", "~* &* +@all -script", "SCRIPT LOAD"),
        ("news", "~* &* +@all -subscribe", "subscribe"),
        ("none", "~* &*", "ping"),
    ] {
        let url = user(&redis, name, rights);
        refused(&url, text);
        refused(&url, "docs/reference/redis.md lists the necessary rights");
    }
    refused(&format!("{}?user=nobody&pass=secret", redis.url()), "rejects this user");
    assert_eq!(redis.ask(&["KEYS", "*log*"]).trim(), "", "nothing is half done");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn missing_password_and_replica_are_reported() {
    let redis = Redis::start_with(words(&["--requirepass", "secret", "--save", ""]));
    refused(&redis.url(), "requires a password");
    refused(&format!("{}?pass=secrets", redis.url()), "rejects this user");
    let replica = Redis::start_with(words(&["--replicaof", "127.0.0.1", "1", "--save", ""]));
    refused(&replica.url(), "is a replica: use the address of its master");
    refused(&(replica.url() + "?db=99"), "DB index is out of range");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn keys_of_another_program_are_reported() {
    let redis = Redis::start();
    redis.ask(&["SET", "dsmq:{0}:store", "1"]);
    refused(&redis.url(), "another program's data");
    assert_eq!(redis.ask(&["GET", "dsmq:{0}:store"]).trim(), "1");
}

/// A server that answers everything with this text.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    addr
}

/// A port without a listener; it is reserved while the socket exists.
fn nobody() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[test]
fn other_servers_are_refused() {
    let http = answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let dsmq = server();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = silent.local_addr().map(|addr| (silent, addr)).unwrap();
    let (_nobody, port) = nobody();
    for (at, text) in [
        (http.to_string(), "is not a Redis"),
        (dsmq.addr().to_string(), "is not a Redis"),
        (silent.1.to_string(), "no answer in time"),
        (format!("127.0.0.1:{port}"), "Connection refused"),
    ] {
        refused(&format!("redis://{at}"), text);
        // All named nodes are asked at the same time.
        refused(&format!("redis-cluster://{}", vec![at; 20].join(",")), text);
    }
    refused("redis+unix:///nowhere/redis", "does not answer (No such file");
}

#[test]
fn invalid_url_is_answered_with_its_format() {
    for wrong in ["redis://h:x", "redis://h:99999", "redis://h/x", "redis-cluster://h:x"] {
        refused(wrong, "invalid URL: write redis://[USER:PASSWORD@]HOST[:PORT]");
    }
    for wrong in ["0", "x", "", "1025", "secret"] {
        refused(&format!("redis-cluster://h:1?parts={wrong}"), "parts=N, from 1 to 1024");
    }
    refused("redis://h:1?parts=4", "redis-cluster://HOST:PORT");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn cluster_and_single_redis_are_not_confused() {
    let cluster = Cluster::start(Shape { replicas: false, ..CALM });
    for node in 0..3 {
        refused(&format!("redis://127.0.0.1:{}", cluster.port(node)), "redis-cluster://HOST:PORT");
        // The same for a user who may not run INFO.
        let set = "ACL SETUSER user on >secret ~dsmq:* &dsmq:* +@all -@dangerous";
        let _: String = cluster.ask(node, &set.split(' ').collect::<Vec<_>>()).unwrap();
        let elsewhere = cluster.master_of(cluster.slot_of("{0}")) != node;
        if elsewhere {
            let url = format!("redis://user:secret@127.0.0.1:{}", cluster.port(node));
            refused(&url, "redis-cluster://HOST:PORT");
        }
    }
    let url = cluster.url() + "?parts=3";
    let (_server, _) = Process::server(&mut dsmq(&["--port", "0", "--store", &url]));
    refused(&(cluster.url() + "?parts=4"), "the store has 3 partitions");
    let port = free_port();
    let alone = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""];
    let _alone = Redis::start_with(words(&alone));
    refused(&format!("redis-cluster://127.0.0.1:{port}"), &format!("redis://127.0.0.1:{port}"));
    #[cfg(feature = "tls")]
    refused(&format!("rediss://127.0.0.1:{port}"), "use redis:// to connect without TLS");
}
