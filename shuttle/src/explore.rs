//! What is explored. Each is run under many schedules; a thread that is never woken is a deadlock,
//! which shuttle reports.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::broker::{Broker, Caller, From, Pattern, Session, TakeWaiter};
use crate::limits;
use crate::ops::{Batch, Completion, Id, Op, Outcome, PutOptions, Requeue, Topic};
use crate::store::{self, Rules, Store};

type Exploration = (&'static str, fn());

pub const ALL: [Exploration; 11] = [
    ("batches that meet are each committed once", || commits(4, 3)),
    ("a leader hands over", || commits(3, 12)),
    ("batches of tasks are completed once", tasks),
    ("a tick meets batches", tick_among_batches),
    ("takers are served in the order of their line", takers_in_line),
    ("takers who join while messages come are served", takers_who_join),
    ("takers who leave lose nothing", takers_who_leave),
    ("a line that is held up holds up no other", lines_are_apart),
    ("getters who wait are woken", getters),
    ("subscribers are woken", subscribers),
    ("the timer sleeps no longer than it may", timer),
];

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn open() -> Arc<dyn Store> {
    store::in_memory(Rules::default()).unwrap()
}

fn broker() -> Arc<Broker> {
    Arc::new(Broker::new(open()))
}

fn put(broker: &Broker, body: usize) {
    put_to(broker, topic(), body);
}

fn put_to(broker: &Broker, topic: Topic, body: usize) {
    let mut batch = Batch::default();
    batch.put(topic, body.to_string().as_bytes(), None);
    broker.apply(&Caller::server(), &mut batch);
    assert!(matches!(batch.outcomes[..], [Ok(Outcome::Stored { .. })]));
}

/// All messages of the topic, by the numbers that they are.
fn all(store: &dyn Store) -> Vec<(Id, usize)> {
    let Some(state) = store.topic("t") else { return Vec::new() };
    let chunk = store.read(&state, 0, limits::CHUNK_MESSAGES).unwrap();
    let number = |body: &[u8]| String::from_utf8_lossy(body).parse().unwrap();
    (0..).map_while(|at| chunk.get(at)).map(|message| (message.id, number(message.body))).collect()
}

/// A waker as a connection's thread has it: it wakes the thread that sleeps in [`thread::park`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

/// Every batch is committed once, and its submitter returns with its outcome.
fn commits(writers: usize, batches: usize) {
    let store = open();
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            thread::spawn(move || {
                let mut stored = Vec::new();
                for number in (0..batches).map(|batch| writer * batches + batch) {
                    let mut batch = Batch::default();
                    batch.put(topic(), number.to_string().as_bytes(), None);
                    store.apply(&mut batch);
                    let [Ok(Outcome::Stored { id, duplicate: false, .. })] = batch.outcomes[..]
                    else {
                        panic!("{:?}", batch.outcomes);
                    };
                    stored.push((id, number));
                }
                stored
            })
        })
        .collect();
    let mut stored: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    stored.sort_unstable();
    assert_eq!(all(&*store), stored);
    assert_eq!(stored.len(), writers * batches);
}

/// Counts the batches of a task that were completed.
struct Task(Arc<AtomicUsize>);

impl Completion for Task {
    fn complete(self: Box<Self>, batch: Batch) {
        assert!(matches!(batch.outcomes[..], [Ok(Outcome::Stored { .. })]));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Tasks submit batches beside threads that wait for theirs: each is committed and completed once.
fn tasks() {
    let (store, completed) = (open(), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let (store, completed) = (store.clone(), completed.clone());
            thread::spawn(move || {
                for round in 0..3 {
                    let mut batch = Batch::default();
                    batch.put(topic(), b"1", None);
                    if (number + round) % 2 == 0 {
                        store.submit(batch, Box::new(Task(completed.clone())));
                    } else {
                        store.apply(&mut batch);
                        assert!(matches!(batch.outcomes[..], [Ok(Outcome::Stored { .. })]));
                    }
                }
            })
        })
        .collect();
    join_all(threads);
    assert_eq!(completed.load(Ordering::SeqCst), 5);
    assert_eq!(all(&*store).len(), 9);
}

/// A tick among batches puts the delayed message that is due, and returns its topic.
fn tick_among_batches() {
    let store = open();
    let mut batch = Batch::default();
    let options = PutOptions { delay: Some(1), ..PutOptions::default() };
    batch.put(Topic::new("delayed").unwrap(), b"1", Some(Box::new(options)));
    store.apply(&mut batch);
    // The clock is the system's: this ends by itself.
    while store.due(0) > store.now() {}
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let mut batch = Batch::default();
                    batch.put(topic(), b"1", None);
                    store.apply(&mut batch);
                    assert!(matches!(batch.outcomes[..], [Ok(Outcome::Stored { .. })]));
                }
            })
        })
        .collect();
    let due = store.tick(0).unwrap();
    assert_eq!(due.put, [Topic::new("delayed").unwrap()]);
    join_all(writers);
    assert_eq!(all(&*store).len(), 4);
}

/// Sleeps until the taker has been handed a message.
fn served(waiting: &mut TakeWaiter) -> Requeue {
    loop {
        if let Some(handed) = waiting.handed() {
            return handed.unwrap();
        }
        thread::park();
    }
}

/// Two puts, each on its own thread, the second with two messages.
fn putters(broker: &Arc<Broker>) -> Vec<thread::JoinHandle<()>> {
    let (one, two) = (broker.clone(), broker.clone());
    vec![
        thread::spawn(move || put(&one, 0)),
        thread::spawn(move || {
            put(&two, 1);
            put(&two, 2);
        }),
    ]
}

fn join_all<T: 'static>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// One message each, the first in the line the first message.
fn takers_in_line() {
    let broker = broker();
    // They wait in a known order; each is woken on its own thread.
    let line: Vec<_> = (0..3)
        .map(|_| {
            let slot = Arc::new(Slot::default());
            let waiting =
                broker.wait_to_take(&Caller::server(), &topic(), None, slot.clone().into());
            (slot, waiting)
        })
        .collect();
    let takers = line.into_iter().map(|(slot, mut waiting)| {
        thread::spawn(move || {
            *slot.0.lock().unwrap() = Some(thread::current());
            served(&mut waiting).taken.id
        })
    });
    let takers: Vec<_> = takers.collect();
    join_all(putters(&broker));
    let ids = join_all(takers);
    assert!(ids.is_sorted_by(|a, b| a < b), "served out of order: {ids:?}");
    assert_eq!(broker.stats(&Caller::server()).messages, 0);
}

/// A waker for a thread that is not there yet.
#[derive(Default)]
struct Slot(Mutex<Option<Thread>>);

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        if let Some(thread) = &*self.0.lock().unwrap() {
            thread.unpark();
        }
    }
}

/// As many messages as takers, who begin to wait meanwhile: all are served, with one each.
fn takers_who_join() {
    let broker = broker();
    let takers = (0..3).map(|_| {
        let broker = broker.clone();
        thread::spawn(move || {
            let mut waiting = broker.wait_to_take(&Caller::server(), &topic(), None, waker());
            served(&mut waiting).taken.id
        })
    });
    let takers: Vec<_> = takers.collect();
    join_all(putters(&broker));
    let mut ids = join_all(takers);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), broker.stats(&Caller::server()).messages), (3, 0));
}

/// Three messages and four takers, two of whom leave, with a lease or without: the others are
/// served, whoever was handed what, and one message is left.
fn takers_who_leave() {
    let broker = broker();
    let stay = |broker: Arc<Broker>| {
        thread::spawn(move || {
            let mut waiting = broker.wait_to_take(&Caller::server(), &topic(), None, waker());
            served(&mut waiting).taken.id
        })
    };
    let leave = |broker: Arc<Broker>, lease| {
        thread::spawn(move || {
            let waiting = broker.wait_to_take(&Caller::server(), &topic(), lease, waker());
            thread::yield_now();
            broker.give_up(&Caller::server(), waiting);
        })
    };
    let leavers = vec![leave(broker.clone(), None), leave(broker.clone(), Some(60_000_000))];
    let takers = vec![stay(broker.clone()), stay(broker.clone())];
    join_all(putters(&broker));
    join_all(leavers);
    let ids = join_all(takers);
    let mut batch = Batch::default();
    batch.ops.push(Op::Take { topic: topic(), lease: None });
    broker.apply(&Caller::server(), &mut batch);
    let [Ok(Outcome::Taken(Some(left)))] = &batch.outcomes[..] else {
        panic!("{:?}", batch.outcomes);
    };
    assert_eq!(left.deliveries, 1, "what did not reach its taker was no delivery");
    assert!(ids[0] != ids[1] && !ids.contains(&left.id));
    assert_eq!(broker.stats(&Caller::server()).messages, 0);
}

/// What holds up whoever serves a taker until it is let go, as a store does that is silent.
#[derive(Default)]
struct Silent {
    over: AtomicBool,
    held: Mutex<Option<Thread>>,
}

impl Wake for Silent {
    fn wake(self: Arc<Self>) {
        *self.held.lock().unwrap() = Some(thread::current());
        while !self.over.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

impl Silent {
    fn let_go(&self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(held) = &*self.held.lock().unwrap() {
            held.unpark();
        }
    }
}

/// While whoever serves a line is held up, takers come to it and leave it, and those in the line of
/// another topic are served all the same.
fn lines_are_apart() {
    let (broker, silent) = (broker(), Arc::new(Silent::default()));
    let mut first = broker.wait_to_take(&Caller::server(), &topic(), None, silent.clone().into());
    let second = broker.wait_to_take(&Caller::server(), &topic(), None, Waker::noop().clone());
    let [putting, joining, leaving] = [(); 3].map(|()| broker.clone());
    let threads = vec![
        thread::spawn(move || put(&putting, 0)),
        thread::spawn(move || {
            let third =
                joining.wait_to_take(&Caller::server(), &topic(), None, Waker::noop().clone());
            joining.give_up(&Caller::server(), third);
        }),
        thread::spawn(move || leaving.give_up(&Caller::server(), second)),
    ];
    let other = Topic::new("other").unwrap();
    let mut apart = broker.wait_to_take(&Caller::server(), &other, None, waker());
    put_to(&broker, other, 1);
    served(&mut apart);
    drop(apart);
    silent.let_go();
    join_all(threads);
    assert!(first.handed().is_some_and(|handed| handed.is_ok()));
    assert_eq!(broker.stats(&Caller::server()).messages, 0);
}

/// Two getters who wait have every message, in order.
fn getters() {
    let broker = broker();
    let getters = (0..2).map(|_| {
        let (broker, mut session) = (broker.clone(), broker.session(&Caller::server()));
        thread::spawn(move || {
            let mut had = Vec::new();
            while had.len() < 3 {
                match get(&broker, &mut session) {
                    Some(id) => had.push(id),
                    None => {
                        let watch = broker.watch(&Caller::server(), topic(), waker());
                        match get(&broker, &mut session) {
                            Some(id) => had.push(id),
                            None => thread::park(),
                        }
                        drop(watch);
                    }
                }
            }
            had
        })
    });
    let getters: Vec<_> = getters.collect();
    join_all(putters(&broker));
    let had = join_all(getters);
    assert!(had[0].is_sorted_by(|a, b| a < b) && had[0] == had[1]);
}

fn get(broker: &Broker, session: &mut Session) -> Option<Id> {
    broker.get(&Caller::server(), session, "t", None).unwrap().map(|message| message.id)
}

/// Two subscribers, one by a prefix that overlaps with a name, have every message once, in order.
fn subscribers() {
    let broker = broker();
    let readers = [&["t"][..], &["t*", "t"][..]].map(|patterns| {
        let (broker, mut session) = (broker.clone(), broker.session(&Caller::server()));
        thread::spawn(move || {
            for pattern in patterns {
                let pattern = Pattern::new(pattern).unwrap();
                broker
                    .subscribe(
                        &Caller::server(),
                        &mut session,
                        vec![pattern],
                        From::Oldest,
                        &waker(),
                    )
                    .unwrap();
            }
            let mut had = Vec::new();
            while had.len() < 3 {
                match broker.pushes(&Caller::server(), &mut session).unwrap() {
                    Some(pushes) => {
                        let ids = pushes.range.filter_map(|at| pushes.chunk.get(at)).map(|m| m.id);
                        had.extend(ids);
                    }
                    None => thread::park(),
                }
            }
            had
        })
    });
    let readers = readers.into_iter().collect();
    join_all(putters(&broker));
    let had = join_all(readers);
    assert!(had[0].is_sorted_by(|a, b| a < b) && had[0] == had[1]);
}

/// Leases begin in every way while the timer runs: it never sleeps past the end of the first, and
/// stops when it is told to.
fn timer() {
    const LEASE: Duration = Duration::from_secs(5);
    let lease = Some(LEASE.as_micros() as u64);
    let broker = broker();
    let timing = broker.clone();
    let clock = thread::spawn(move || timing.run_timer(0));
    let waiting = broker.clone();
    let taker = thread::spawn(move || {
        let mut waiting = waiting.wait_to_take(&Caller::server(), &topic(), lease, waker());
        served(&mut waiting).taken.id
    });
    put(&broker, 0);
    taker.join().unwrap();
    // It may still be on its way to sleep.
    let sleeps = loop {
        match std::sleeps_for() {
            Some(sleeps) => break sleeps,
            None => thread::yield_now(),
        }
    };
    assert!(sleeps <= LEASE, "it sleeps for {sleeps:?}");
    broker.close();
    clock.join().unwrap();
}
