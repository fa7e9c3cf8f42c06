//! Puts with options, takes and leases.

use std::time::Instant;

use dsmq::client::Put;

use super::*;
use crate::suite::support::PATIENCE;

#[test]
fn higher_priorities_are_taken_first() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    for priority in [4, 0, 9, 9, 4] {
        client.put_with("t", &priority, &Put::new().priority(priority)).unwrap();
    }
    client.put("t", "between").unwrap();
    let taken = client.take_batch("t", 10, None).unwrap();
    let order: Vec<_> = taken.iter().map(|taken| taken.message.json().to_owned()).collect();
    assert_eq!(order, ["9", "9", "4", "4", "\"between\"", "0"]);
    assert!(taken[0].message.id < taken[1].message.id);
    let refused = client.put_with("t", "m", &Put::new().priority(10)).unwrap_err();
    assert_eq!(refused.code(), Some("bad_field"));
}

#[test]
fn a_put_says_whether_it_was_stored() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let once = Put::new().dedupe("key");
    let first = client.put_with("t", "first", &once).unwrap();
    assert!(first.id.is_some() && !first.duplicate);
    let second = client.put_with("t", "second", &once).unwrap();
    assert_eq!((second.id, second.timestamp, second.duplicate), (first.id, first.timestamp, true));
    assert!(!client.put_with("another", "first", &once).unwrap().duplicate);

    let late = client.put_with("t", "late", &Put::new().delay(Duration::from_secs(60))).unwrap();
    assert_eq!((late.id, late.duplicate), (None, false));
    assert!(late.timestamp > first.timestamp + 59.0);
    let soon = Put::new().delay(Duration::from_millis(10));
    let due = client.put_with("t", "soon", &soon).unwrap().timestamp;
    assert_eq!(client.get("t").unwrap().unwrap().text().unwrap(), "first");
    let soon = client.get_wait("t", Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(soon.text().unwrap(), "soon");
    assert!(soon.timestamp >= due);

    client.put_with("t", "short-lived", &Put::new().ttl(Duration::ZERO)).unwrap();
    assert_eq!(client.get("t").unwrap(), None);
    let batch = client.put_batch_with("t", &[1, 2], &Put::new().priority(0)).unwrap();
    assert!(batch[0].id < batch[1].id);
}

#[test]
fn a_lease_hides_returns_and_ends() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let lease = Duration::from_secs(60);
    let id = client.put_confirmed("t", "job").unwrap().id;
    let first = client.take_lease("t", lease).unwrap().unwrap();
    assert_eq!((first.topic.as_str(), first.message.id, first.deliveries), ("t", id, 1));
    assert_eq!(client.take("t").unwrap(), None);
    assert_eq!(client.get("t").unwrap().unwrap().id, id);
    client.nack(&first, Duration::ZERO).unwrap();
    assert_eq!(client.ack(&first).unwrap_err().code(), Some("gone"));

    let second = client.take_wait("t", Some(Duration::from_millis(10)), Duration::ZERO);
    assert_eq!(second.unwrap().unwrap().deliveries, 2);
    // The lease ends by itself.
    let third = client.take_wait("t", Some(lease), Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!((third.message.id, third.deliveries), (id, 3));
    client.nack(&third, Duration::from_millis(10)).unwrap();
    assert_eq!(client.take("t").unwrap(), None);
    let fourth = client.take_wait("t", Some(lease), Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(fourth.deliveries, 4);
    client.ack(&fourth).unwrap();
    assert_eq!(client.ack(&fourth).unwrap_err().code(), Some("gone"));
    assert_eq!(client.peek("t").unwrap(), None);
}

#[test]
fn a_lease_that_ends_serves_who_waits_already() {
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let wait = |lease| {
        let mut taker = Client::connect(server.addr()).unwrap();
        thread::spawn(move || taker.take_wait("t", Some(lease), PATIENCE).unwrap().unwrap())
    };
    let first = wait(Duration::from_millis(50));
    while client.stats().unwrap().waiting < 1 {}
    let second = wait(Duration::from_secs(60));
    while client.stats().unwrap().waiting < 2 {}
    let id = client.put_confirmed("t", "job").unwrap().id;
    let start = Instant::now();
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert_eq!((first.message.id, first.deliveries), (id, 1));
    assert_eq!((second.message.id, second.deliveries), (id, 2));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(client.ack(&first).unwrap_err().code(), Some("gone"));
    client.ack(&second).unwrap();
}

#[test]
fn batches_of_takes_and_acks_go_through() {
    const COUNT: usize = 10_000;
    let server = server();
    let mut client = Client::connect(server.addr()).unwrap();
    let numbers: Vec<usize> = (0..COUNT).collect();
    client.put_batch("t", &numbers).unwrap();
    client.ping().unwrap();
    let taken = client.take_batch("t", COUNT + 1, Some(Duration::from_secs(600))).unwrap();
    assert_eq!(decoded(taken.iter().map(|taken| &taken.message)), numbers);
    assert_eq!(client.ack_batch(&taken).unwrap(), vec![true; COUNT]);
    assert_eq!(client.ack_batch(&taken[..10]).unwrap(), [false; 10]);
    client.put_batch("t", &numbers).unwrap();
    client.ping().unwrap();
    let taken = client.take_batch("t", COUNT, None).unwrap();
    assert_eq!(decoded(taken.iter().map(|taken| &taken.message)), numbers);
    assert_eq!(client.take_batch("t", 5, None).unwrap(), []);
}

#[test]
fn a_dead_letter_tells_where_it_was() {
    let server = server_with(Config { dead_letter_after: 2, ..Config::default() });
    let mut client = Client::connect(server.addr()).unwrap();
    let id = client.put_confirmed("t", "poison").unwrap().id;
    for deliveries in [1, 2] {
        let taken = client.take_lease("t", Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(taken.deliveries, deliveries);
        client.nack(&taken, Duration::ZERO).unwrap();
    }
    assert_eq!(client.take("t").unwrap(), None);
    let dead = client.take_wait("t.dead", None, Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!((dead.message.text().unwrap().as_str(), dead.deliveries), ("poison", 1));
    let from = dead.message.from.unwrap();
    assert_eq!((from.topic.as_str(), from.id), ("t", id));
}

#[test]
fn every_job_is_done_over_connections_that_break() {
    const COUNT: usize = 500;
    let server = server();
    let addr = breaking_proxy(server.addr());
    let mut client = Client::connect(server.addr()).unwrap();
    client.put_batch("t", &(0..COUNT).collect::<Vec<_>>()).unwrap();
    client.ping().unwrap();
    let mut worker = Client::connect(addr).unwrap();
    let mut done = vec![0; COUNT];
    while client.peek("t").unwrap().is_some() {
        let lease = Some(Duration::from_millis(200));
        let take = || worker.take_wait("t", lease, Duration::from_secs(1));
        let Some(job) = persist(take) else { continue };
        match worker.ack(&job) {
            Ok(()) => done[job.message.decode::<usize>().unwrap()] += 1,
            // It may have been removed; if not, it is handed out again.
            Err(Error::Unconfirmed) => {}
            Err(error) => assert_eq!(error.code(), Some("gone"), "{error}"),
        }
    }
    assert!(done.iter().all(|times| *times <= 1), "{done:?}");
    assert!(done.iter().filter(|times| **times == 1).count() > COUNT / 2);
}
