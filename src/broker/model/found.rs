//! Cases that failed once. They are run first.

use super::action::{Action, Begin, Case, Do, Options};

const PLAIN: Options = Options { priority: 4, ttl: None, delay: None, key: None };

pub fn cases() -> Vec<Case> {
    let ttl = |ttl| Options { ttl: Some(ttl), ..PLAIN };
    let join = |lease| Action::Join { topic: 0, lease };
    let subscribe = |pattern, from| Action::Subscribe { session: 0, pattern, from };
    let take = || Action::Batch(vec![Do::Take { topic: 0, lease: None, count: 1 }]);
    let put_back = || Action::Batch(vec![Do::PutBack { hand: 0 }]);
    let read = || Action::Read { session: 0, most: 9 };
    let cases = [
        // A get or a subscription that looked while a take had a message never got it after it was put back.
        (0, vec![put(PLAIN), put(PLAIN), take(), get(), put_back(), get()]),
        (0, vec![put(PLAIN), take(), get(), put_back(), get(), get()]),
        (
            0,
            vec![
                subscribe(3, Begin::Now),
                put(PLAIN),
                put(PLAIN),
                take(),
                read(),
                put_back(),
                read(),
            ],
        ),
        // But it must not come twice to those who had it before the take, nor after get_latest.
        (0, vec![put(PLAIN), get(), take(), put(PLAIN), get(), put_back(), get()]),
        (0, vec![put(PLAIN), put(PLAIN), take(), get_latest(), put_back(), get()]),
        // A message with a ttl that was taken and put back was lost: its expiry stood there still.
        (0, vec![put(ttl(1)), join(None), Action::GiveUp(0)]),
        // A message for a taker that had left counted as a delivery and became a dead letter.
        (1, vec![put(PLAIN), join(Some(1)), Action::GiveUp(0)]),
        // An expired message whose lease ended became a dead letter.
        (1, vec![put(ttl(1)), join(Some(0)), pass(1)]),
        // Expired messages, until they were removed, stood in for the last that there were.
        (0, vec![put(PLAIN), put(ttl(0)), get_latest(), Action::History { topic: 0, limit: 1 }]),
        (0, [vec![put(ttl(0)); 4], vec![put(PLAIN), get()]].concat()),
        // A second subscription passed over what the first had not read.
        (0, vec![subscribe(0, Begin::Now), put(PLAIN), subscribe(3, Begin::Now)]),
        // A dead letter that nobody followed when it was made was not pushed to who came later.
        (
            1,
            vec![
                join(Some(5)),
                put(PLAIN),
                Action::Collect(0),
                Action::Batch(vec![Do::Nack { lease: 0, delay: 0 }]),
                subscribe(3, Begin::Oldest),
            ],
        ),
        // One taker's end took the line away in which another had begun to wait.
        (
            0,
            vec![
                join(None),
                join(None),
                put(PLAIN),
                put(PLAIN),
                Action::Collect(0),
                join(None),
                Action::Collect(0),
                put(PLAIN),
            ],
        ),
    ];
    cases.into_iter().map(|(after, actions)| case(after, actions)).collect()
}

fn case(dead_letter_after: u32, actions: Vec<Action>) -> Case {
    Case { dead_letter_after, actions, purge_at_the_end: false }
}

fn put(options: Options) -> Action {
    Action::Batch(vec![Do::Put { topic: 0, large: false, options: Some(options) }])
}

fn pass(units: u64) -> Action {
    Action::Pass { units, tick: true }
}

fn get() -> Action {
    Action::Get { session: 0, topic: 0, since: None, latest: false }
}

fn get_latest() -> Action {
    Action::Get { session: 0, topic: 0, since: None, latest: true }
}
