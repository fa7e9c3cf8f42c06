//! What can happen in a case, and how it is made up. Numbers choose among what there is when the
//! action comes, so that a case means something whatever is taken out of it: so it shrinks well.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Few, so that actions meet. Two begin alike, and two are for the dead letters of the others.
pub const TOPICS: [&str; 4] = ["a", "ab", "a.dead", "ab.dead"];

/// One of [`TOPICS`].
pub type Name = usize;

/// Where the dead letters of a topic go.
pub fn dead(topic: Name) -> Option<Name> {
    (topic < 2).then_some(topic + 2)
}

/// What a subscription can name.
pub const PATTERNS: [&str; 6] = ["a", "ab", "a.dead", "a*", "ab*", "*"];

/// Durations are whole units; a dedupe key is kept for six.
pub const UNIT: u64 = 20_000_000;

#[derive(Clone, Debug)]
pub struct Case {
    pub dead_letter_after: u32,
    pub actions: Vec<Action>,
    /// Whether it ends with a purge, or with everything being taken.
    pub purge_at_the_end: bool,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Operations that are carried out together.
    Batch(Vec<Do>),
    Connect,
    Disconnect(usize),
    Get {
        session: usize,
        topic: Name,
        since: Option<usize>,
        latest: bool,
    },
    /// A get that waits, if there is nothing.
    Watch {
        session: usize,
        topic: Name,
    },
    Subscribe {
        session: usize,
        pattern: usize,
        from: Begin,
    },
    Unsubscribe {
        session: usize,
        pattern: usize,
    },
    /// Reads pushes, at most so many times.
    Read {
        session: usize,
        most: usize,
    },
    /// A take that waits.
    Join {
        topic: Name,
        lease: Option<u64>,
    },
    /// A waiting taker looks at what it was handed.
    Collect(usize),
    /// A waiting taker goes.
    GiveUp(usize),
    History {
        topic: Name,
        limit: usize,
    },
    /// The clock goes on, and the timer does what is due, or has not come to it yet.
    Pass {
        units: u64,
        tick: bool,
    },
}

/// One operation of a batch.
#[derive(Clone, Debug)]
pub enum Do {
    Put {
        topic: Name,
        large: bool,
        options: Option<Options>,
    },
    /// This many takes in a row.
    Take {
        topic: Name,
        lease: Option<u64>,
        count: usize,
    },
    /// Of a lease that was given at some time, so perhaps a stale one.
    Ack {
        lease: usize,
    },
    Nack {
        lease: usize,
        delay: u64,
    },
    /// Of a message that was taken without a lease.
    PutBack {
        hand: usize,
    },
    Peek {
        topic: Name,
    },
    Delete {
        topic: Name,
        message: usize,
    },
    Purge {
        topic: Name,
    },
    Stop {
        topic: Name,
        stopped: bool,
    },
    Policy {
        topic: Name,
        broadcast: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Options {
    pub priority: u8,
    pub ttl: Option<u64>,
    pub delay: Option<u64>,
    pub key: Option<u8>,
}

#[derive(Clone, Debug)]
pub enum Begin {
    Now,
    Oldest,
    Id(usize),
    Last(usize),
}

pub fn case() -> impl Strategy<Value = Case> {
    (0..4u32, vec(action(), 1..40), any::<bool>()).prop_map(
        |(dead_letter_after, actions, purge_at_the_end)| Case {
            dead_letter_after,
            actions,
            purge_at_the_end,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let which = 0..8usize;
    let session = 0..3usize;
    let reading = prop_oneof![
        4 => (session.clone(), name(), option::weighted(0.2, 0..12usize), prop::bool::weighted(0.2))
            .prop_map(|(session, topic, since, latest)| Action::Get { session, topic, since, latest }),
        1 => (session.clone(), name()).prop_map(|(session, topic)| Action::Watch { session, topic }),
        2 => (session.clone(), 0..PATTERNS.len(), begin())
            .prop_map(|(session, pattern, from)| Action::Subscribe { session, pattern, from }),
        1 => (session.clone(), 0..PATTERNS.len())
            .prop_map(|(session, pattern)| Action::Unsubscribe { session, pattern }),
        3 => (session, 1..4usize).prop_map(|(session, most)| Action::Read { session, most }),
        1 => (name(), 0..5usize).prop_map(|(topic, limit)| Action::History { topic, limit }),
    ];
    prop_oneof![
        10 => vec(operation(), 1..5).prop_map(Action::Batch),
        7 => reading,
        1 => Just(Action::Connect),
        1 => which.clone().prop_map(Action::Disconnect),
        2 => (name(), lease()).prop_map(|(topic, lease)| Action::Join { topic, lease }),
        1 => which.clone().prop_map(Action::Collect),
        1 => which.prop_map(Action::GiveUp),
        4 => (0..4u64, prop::bool::weighted(0.7)).prop_map(|(units, tick)| Action::Pass { units, tick }),
    ]
}

fn operation() -> impl Strategy<Value = Do> {
    let which = 0..8usize;
    prop_oneof![
        6 => (name(), prop::bool::weighted(0.1), option::of(options()))
            .prop_map(|(topic, large, options)| Do::Put { topic, large, options }),
        4 => (name(), lease(), 1..4usize)
            .prop_map(|(topic, lease, count)| Do::Take { topic, lease, count }),
        2 => which.clone().prop_map(|lease| Do::Ack { lease }),
        2 => (which.clone(), 0..3u64).prop_map(|(lease, delay)| Do::Nack { lease, delay }),
        2 => which.clone().prop_map(|hand| Do::PutBack { hand }),
        1 => name().prop_map(|topic| Do::Peek { topic }),
        1 => (name(), which).prop_map(|(topic, message)| Do::Delete { topic, message }),
        1 => name().prop_map(|topic| Do::Purge { topic }),
        1 => (name(), any::<bool>()).prop_map(|(topic, stopped)| Do::Stop { topic, stopped }),
        1 => (name(), any::<bool>()).prop_map(|(topic, broadcast)| Do::Policy { topic, broadcast }),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let priority = prop_oneof![2 => Just(4u8), 1 => 3..6u8, 1 => Just(0u8), 1 => Just(9u8)];
    let key = option::weighted(0.3, 0..2u8);
    (priority, option::weighted(0.3, 0..5u64), option::weighted(0.3, 0..4u64), key)
        .prop_map(|(priority, ttl, delay, key)| Options { priority, ttl, delay, key })
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![6 => Just(0), 3 => Just(1), 2 => Just(2), 1 => Just(3)]
}

fn lease() -> impl Strategy<Value = Option<u64>> {
    option::weighted(0.6, 0..4u64)
}

fn begin() -> impl Strategy<Value = Begin> {
    prop_oneof![
        2 => Just(Begin::Now),
        1 => Just(Begin::Oldest),
        1 => (0..12usize).prop_map(Begin::Id),
        1 => (0..4usize).prop_map(Begin::Last),
    ]
}
