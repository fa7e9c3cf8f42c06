//! Three servers over one Redis or one cluster are killed or suspended at random, as are takers,
//! while messages are put and taken on all of them. No message may be lost or acked twice.

use std::net::SocketAddr;
use std::process::Command;

use super::{Redis, load};
use crate::suite::support::process::{Process, dsmq};
use crate::suite::support::random::{Random, number, seed};
use crate::suite::support::redis_cluster::{CALM, Cluster};

const SERVERS: usize = 3;

/// Number of kills.
const KILLS: usize = 20;

/// Number of suspensions.
const STOPS: usize = 100;

/// Kills servers over this store during a load on this number of topics.
fn kill_servers(store: &str, topics: usize) {
    let messages = number("DSMQ_REDIS_MESSAGES", 20_000) as usize;
    let plan = load::Plan { messages, topics, seed: seed(), taker_ends: 50 };
    let start = || Process::server(&mut dsmq(&["--port", "0", "--log", "error", "--store", store]));
    let mut servers: Vec<(Process, SocketAddr)> = (0..SERVERS).map(|_| start()).collect();
    let addrs: Vec<SocketAddr> = servers.iter().map(|server| server.1).collect();
    let seen = load::run(plan, &addrs, |load| {
        let mut random = Random(plan.seed);
        for kill in 1..=KILLS {
            load.until_acked(kill * messages / (KILLS + 2));
            let victim = random.below(SERVERS as u64) as usize;
            servers[victim] = start();
            load.replace(victim, servers[victim].1);
        }
    });
    println!("{messages} messages of {topics} topics, {KILLS} kills: {seen}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn suspended_servers_resume() {
    let redis = Redis::start();
    let messages = 100 * STOPS;
    let plan = load::Plan { messages, topics: 4, seed: seed(), taker_ends: 50 };
    let start =
        || Process::server(&mut dsmq(&["--port", "0", "--log", "error", "--store", &redis.url()]));
    let servers = [start(), start()];
    let addrs = servers.each_ref().map(|server| server.1);
    let seen = load::run(plan, &addrs, |load| {
        let mut random = Random(plan.seed);
        for _ in 0..STOPS {
            load.until_answered(100);
            let (server, _) = &servers[random.below(2) as usize];
            for signal in ["-STOP", "-CONT"] {
                let id = server.id().to_string();
                assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
            }
        }
    });
    println!("{messages} messages, {STOPS} stops: {seen}");
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn killed_servers_lose_and_duplicate_nothing() {
    kill_servers(&Redis::start().url(), 1);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn killed_servers_over_a_cluster_lose_and_duplicate_nothing() {
    kill_servers(&Cluster::start(CALM).url(), 24);
}
