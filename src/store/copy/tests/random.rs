//! Random topics: every operation has been applied to some of their messages.

use super::*;
use crate::ops::{Requeue, Taken as Handed};

const CASES: u64 = 30;
const TOPICS: [&str; 4] = ["a", "a.dead", "b", "é"];
const SECOND: u64 = 1_000_000;

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Fewer than `most` seconds with a probability of 1 in `once_in`; otherwise `None`.
    fn seconds(&mut self, once_in: u64, most: u64) -> Option<u64> {
        (self.below(once_in) == 0).then(|| self.below(most) * SECOND)
    }
}

/// Generates topics with random operations.
struct Life<'a> {
    side: &'a Side,
    random: Random,
    leases: Vec<(usize, Handed)>,
}

impl Life<'_> {
    fn act(&mut self) {
        let at = self.random.below(TOPICS.len() as u64) as usize;
        let topic = topic(TOPICS[at]);
        match self.random.below(20) {
            0..8 => self.put(at),
            8..11 => self.take(at, true),
            11 => self.take(at, false),
            12..14 => self.give_back(),
            14..16 => drop(one(self.side, Op::Peek { topic })),
            16 => drop(one(self.side, Op::SetStopped { topic, stopped: at == 0 })),
            17 => drop(one(self.side, Op::SetPolicy { topic, policy: Policy::RoundRobin })),
            18 if self.random.below(5) == 0 => drop(one(self.side, Op::Purge { topic })),
            _ => {
                NOW.set(clock() + self.random.below(2 * SECOND));
                if self.random.below(2) == 0 {
                    settle(self.side);
                }
            }
        }
    }

    fn put(&mut self, at: usize) {
        let size = [1, 10, 100, 1_000, 3_000, 100_000][self.random.below(6) as usize];
        let body = format!("\"{}{}\"", "x".repeat(size), self.random.next());
        let options = (self.random.below(2) == 0).then(|| {
            let priority = if self.random.below(2) == 0 { 4 } else { self.random.below(10) as u8 };
            let ttl = self.random.seconds(3, 200);
            // Due times must differ: the order of equal ones in two topics is undefined.
            let delay = self.random.seconds(3, 100).map(|delay| delay + at as u64);
            Box::new(PutOptions { priority, ttl, delay, dedupe: None })
        });
        let mut batch = Batch::default();
        batch.put(topic(TOPICS[at]), body.as_bytes(), options);
        self.side.store.apply(&mut batch);
        assert!(batch.only().is_ok());
    }

    fn take(&mut self, at: usize, leased: bool) {
        let lease = self.random.seconds(1, 60).filter(|_| leased).map(|lease| lease + at as u64);
        let topic = topic(TOPICS[at]);
        let mut batch = Batch::default();
        batch.ops.push(Op::Take { topic: topic.clone(), lease });
        self.side.store.apply(&mut batch);
        let Ok(Outcome::Taken(Some(taken))) = batch.outcomes.remove(0) else { return };
        let body = batch.taken_body(&taken).into();
        if leased {
            self.leases.push((at, taken));
        } else if self.random.below(2) == 0 {
            let message = Box::new(Requeue { taken, body, lease });
            drop(one(self.side, Op::PutBack { topic, message }));
        }
    }

    fn give_back(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let which = self.random.below(self.leases.len() as u64) as usize;
        let (at, Handed { id, deliveries, .. }) = self.leases.swap_remove(which);
        let delay = self.random.seconds(2, 60).map_or(0, |delay| delay + at as u64);
        drop(one(self.side, Op::Nack { topic: topic(TOPICS[at]), id, deliveries, delay }));
    }
}

pub fn live(side: &Side, seed: u64) {
    let mut life = Life { side, random: Random(seed), leases: Vec::new() };
    (0..300).for_each(|_| life.act());
}

/// Copies from one store into memory, and from there into a second store of the same kind.
pub fn topics_come_back_the_same(make: &dyn Fn() -> Open) {
    let (mut letters, mut many) = (0, 0);
    for case in 0..CASES {
        NOW.set(START);
        let open = make();
        let rules = Rules { dead_letter_after: 2, ..Rules::default() };
        let from = side("from", open(rules));
        live(&from, case);
        drop(from);
        // Without the dead-letter rule, returned messages stay in their topic.
        let from = new(&open);
        let (between, back) = (memory(), new(&make()));
        let copied = copy_all(&from, &between).unwrap();
        assert_eq!(copy_all(&between, &back).unwrap(), copied);
        for other in [&between, &back] {
            assert_eq!(names(other), names(&from));
            names(&from).iter().for_each(|name| assert_same(&from, other, name));
        }
        letters += names(&from).iter().flat_map(|name| kept(&from, name)).filter(is_letter).count();
        many += copied.messages;
        live_on(&[from, between, back]);
    }
    assert!(letters > CASES as usize && many > 30 * CASES, "{letters} {many}");
}

fn is_letter(message: &StoredMessage) -> bool {
    message.origin.is_some()
}

/// Takes all messages. Those put since the last step of the clock have ids that each store assigned
/// itself, so these ids are set to 0.
fn taken_of(side: &Side, name: &str) -> Vec<Taken> {
    let mut all = take_all(side, name);
    all.iter_mut().filter(|taken| taken.0 >= clock()).for_each(|taken| taken.0 = 0);
    all
}

/// Ends all leases and delays: from here on all stores must behave alike.
fn live_on(sides: &[Side]) {
    NOW.set(clock() + 70 * SECOND);
    sides.iter().for_each(settle);
    for name in names(&sides[0]) {
        let taken = sides.iter().map(|side| taken_of(side, &name)).collect::<Vec<_>>();
        assert!(taken.iter().all(|other| *other == taken[0]), "{name}: {taken:?}");
    }
    NOW.set(clock() + 400 * SECOND);
    for side in sides {
        settle(side);
        for name in names(side) {
            take_all(side, &name);
            assert_eq!(kept(side, &name).len(), 0, "{name}: all was taken");
        }
    }
}
