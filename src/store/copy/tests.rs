//! Tests of the copy: messages arrive unchanged, and an interrupted copy resumes. `random` generates
//! topics; `in_redis` runs the same checks over Redis.

#[cfg(feature = "redis")]
mod in_redis;
mod random;

use std::cell::Cell;
use std::path::PathBuf;

use super::*;
use crate::error::Code;
use crate::limits;
use crate::ops::{Id, Outcome, Policy, PutOptions};
use crate::store::{self, Rules, WhenFull};

const START: Id = 1_780_000_000_000_000;

thread_local! {
    static NOW: Cell<Id> = const { Cell::new(START) };
}

fn clock() -> Id {
    NOW.get()
}

/// Opens a store with these rules. The first time it is empty; only one may be open at a time.
type Open = Box<dyn Fn(Rules) -> Arc<dyn Store>>;

fn file(path: PathBuf) -> Open {
    Box::new(move |rules| store::in_file_with(&path, clock, rules).0)
}

fn side(name: &str, store: Arc<dyn Store>) -> Side {
    Side { name: name.to_owned(), store }
}

fn new(open: &Open) -> Side {
    side("new", open(Rules::default()))
}

fn memory() -> Side {
    side("memory", store::in_memory_with(clock, Rules::default()).0)
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn copy_all(from: &Side, to: &Side) -> Result<Copied, String> {
    copy(from, to, &[], |_| {})
}

fn one(side: &Side, op: Op) -> crate::error::Result<Outcome> {
    let mut batch = Batch::default();
    batch.ops.push(op);
    side.store.apply(&mut batch);
    batch.only()
}

fn put(side: &Side, name: &str, bodies: &[&[u8]]) -> Vec<Id> {
    let mut batch = Batch::default();
    bodies.iter().for_each(|body| batch.put(topic(name), body, None));
    side.store.apply(&mut batch);
    let id = |outcome| match outcome {
        Ok(Outcome::Stored { id, .. }) => id,
        other => panic!("{other:?}"),
    };
    batch.outcomes.drain(..).map(id).collect()
}

/// A taken message.
type Taken = (Id, Vec<u8>, u32, u8, Option<Id>, Option<Box<(Topic, Id)>>);

fn take(side: &Side, name: &str) -> Option<Taken> {
    let mut batch = Batch::default();
    batch.ops.push(Op::Take { topic: topic(name), lease: None });
    side.store.apply(&mut batch);
    match batch.outcomes.pop() {
        Some(Ok(Outcome::Taken(taken))) => taken.map(|taken| {
            let body = batch.taken_body(&taken).to_vec();
            (taken.id, body, taken.deliveries, taken.priority, taken.expires, taken.origin)
        }),
        other => panic!("{other:?}"),
    }
}

fn take_all(side: &Side, name: &str) -> Vec<Taken> {
    (0..).map_while(|_| take(side, name)).collect()
}

fn kept(side: &Side, name: &str) -> Vec<StoredMessage> {
    let mut walk = MessageScan::new(side, side.store.topic(name).unwrap());
    (0..).map_while(|_| walk.next().unwrap()).collect()
}

fn length(side: &Side, name: &str) -> u64 {
    side.store.topic(name).unwrap().counts().length
}

fn assert_same(from: &Side, to: &Side, name: &str) {
    assert_same_messages(from, to, name);
    let known = |side: &Side| {
        let state = side.store.topic(name).unwrap();
        let counts = state.counts();
        (state.newest(), counts.length, counts.bytes, counts.delayed, counts.stopped, counts.policy)
    };
    assert_eq!(known(from), known(to), "{name}");
    assert_eq!(to.store.topic(name).unwrap().counts().leased, 0, "{name}");
}

fn assert_same_messages(from: &Side, to: &Side, name: &str) {
    let (here, there) = (kept(from, name), kept(to, name));
    assert_eq!(here.len(), there.len(), "{name}");
    for (here, there) in here.iter().zip(&there) {
        assert!(here.is_copy_of(there), "{name}: {here:?} became {there:?}");
    }
}

/// Carries out all due work.
fn settle(side: &Side) {
    for part in 0..side.store.partitions() {
        while side.store.due(part) <= clock() {
            side.store.tick(part).unwrap();
        }
    }
}

fn names(side: &Side) -> Vec<String> {
    let mut names: Vec<_> =
        side.store.topics().iter().map(|state| state.topic().as_str().to_owned()).collect();
    names.sort();
    names
}

/// Runs every check against one kind of store.
fn hold(make: &dyn Fn() -> Open) {
    random::topics_come_back_the_same(make);
    foreign_messages_are_refused_before_any_write(make);
    interrupted_copy_resumes(make);
    emptied_topic_is_copied_again(make);
    import_of_an_old_id_is_refused_alone(make);
    scan_is_bounded(make);
    ids_continue_after_the_copy(make);
    topics_are_chosen_by_name(make);
    concurrent_use_of_a_store_is_detected(make);
}

#[test]
fn file_contract_holds() {
    // The folder must outlive every store: a store without its file fails.
    let (folder, number) = (tempfile::tempdir().unwrap(), Cell::new(0));
    hold(&|| {
        number.set(number.get() + 1);
        file(folder.path().join(format!("{}.db", number.get())))
    });
}

#[test]
fn file_is_consistent_after_a_copy() {
    for case in 0..10 {
        NOW.set(START);
        let (from, folder) = (memory(), tempfile::tempdir().unwrap());
        let path = folder.path().join("dsmq.db");
        random::live(&from, case);
        let to = side("file", store::in_file_with(&path, clock, Rules::default()).0);
        let copied = copy_all(&from, &to).unwrap();
        drop(to);
        let checked = store::check(&path).unwrap();
        assert_eq!((checked.topics, checked.faults), (copied.topics, vec![]));
    }
}

/// Partitions can assign equal ids, and a large body is stored under its id.
#[test]
fn large_messages_with_equal_ids_stay_distinct() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dsmq.db");
    let to = side("file", store::in_file_with(&path, clock, Rules::default()).0);
    let body = |name: &str| name.repeat(10_000).into_bytes();
    let names = ["1", "2", "3"];
    let ids = names.map(|name| {
        NOW.set(START);
        let from = memory();
        let id = put(&from, name, &[&body(name)])[0];
        copy_all(&from, &to).unwrap();
        assert_same(&from, &to, name);
        id
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    let whole = |removed: &[&str]| {
        assert_eq!(store::check(&path).unwrap().faults, [""; 0]);
        for name in names {
            let found: Vec<_> = kept(&to, name).into_iter().map(|message| message.body).collect();
            let there = if removed.contains(&name) { vec![] } else { vec![body(name).into()] };
            assert_eq!(found, there);
        }
    };
    assert_eq!(take(&to, "2").unwrap().1, body("2"));
    whole(&["2"]);
    assert_eq!(take(&to, "1").unwrap().1, body("1"));
    whole(&["1", "2"]);
    one(&to, Op::Delete { topic: topic("3"), id: ids[2] }).unwrap();
    whole(&names);
}

fn foreign_messages_are_refused_before_any_write(make: &dyn Fn() -> Open) {
    let (from, to) = (memory(), new(&make()));
    for name in ["a", "b", "c"] {
        put(&from, name, &[b"1", b"2"]);
    }
    put(&to, "b", &[b"1"]);
    let refused = copy_all(&from, &to).unwrap_err();
    let why = "new: the topic \"b\" already has other messages: purge it there, or \
               name the topics to copy; nothing was written";
    assert_eq!(refused, why);
    assert_eq!(names(&to), ["b"]);
    assert_eq!(length(&to, "b"), 1);
    // A topic from which a copied message was taken is refused too.
    copy(&from, &to, &["a".to_owned()], |_| {}).unwrap();
    take(&to, "a").unwrap();
    assert!(copy(&from, &to, &["a".to_owned()], |_| {}).is_err());
    // So is a topic with only a delayed message.
    let options = PutOptions { delay: Some(1), ..PutOptions::default() };
    let mut batch = Batch::default();
    batch.put(topic("c"), b"1", Some(Box::new(options)));
    to.store.apply(&mut batch);
    assert!(copy(&from, &to, &["c".to_owned()], |_| {}).is_err());
}

fn interrupted_copy_resumes(make: &dyn Fn() -> Open) {
    let from = memory();
    for name in ["a", "b", "c"] {
        (0..9).for_each(|_| drop(put(&from, name, &vec![&[b'7'; 100][..]; 900])));
    }
    let open = make();
    let bound = Rules { max_bytes: Some(3 << 20), when_full: WhenFull::Refuse, ..Rules::default() };
    let to = side("new", open(bound));
    let stopped = copy_all(&from, &to).unwrap_err();
    let resumes = "the copied messages stay, and the same command resumes after them";
    assert!(stopped.contains("the store is full") && stopped.ends_with(resumes), "{stopped}");
    let there: u64 = names(&to).iter().map(|name| length(&to, name)).sum();
    assert!((1_000..3 * 8_100).contains(&there), "{there}");
    drop(to);
    let to = new(&open);
    let copied = copy_all(&from, &to).unwrap();
    let all = Copied { topics: 3, messages: 3 * 8_100, bytes: 3 * 810_000, before: there };
    assert_eq!(copied, all);
    for name in ["a", "b", "c"] {
        assert_same(&from, &to, name);
    }
    // A repeated copy changes nothing.
    assert_eq!(copy_all(&from, &to), Ok(Copied { before: 3 * 8_100, ..all }));
}

/// Messages of the target topic were put and taken: its highest id must not prevent the copy.
fn emptied_topic_is_copied_again(make: &dyn Fn() -> Open) {
    let (from, to) = (memory(), new(&make()));
    put(&from, "t", &[b"1", b"2", b"3"]);
    put(&from, "purged", &[b"1", &[b'2'; 10_000]]);
    copy_all(&from, &to).unwrap();
    NOW.set(clock() + 1_000_000);
    let last = put(&to, "t", &[b"later"]);
    assert_eq!(take_all(&to, "t").len(), 4);
    one(&to, Op::Purge { topic: topic("purged") }).unwrap();
    let copied = copy_all(&from, &to).unwrap();
    assert_eq!((copied.messages, copied.before), (5, 0));
    for name in ["t", "purged"] {
        assert_same_messages(&from, &to, name);
    }
    let new = put(&to, "t", &[b"new"]);
    assert!(new > last);
    let bodies: Vec<_> = take_all(&to, "t").into_iter().map(|taken| taken.1).collect();
    assert_eq!(bodies, [&b"1"[..], b"2", b"3", b"new"]);
}

fn import_of_an_old_id_is_refused_alone(make: &dyn Fn() -> Open) {
    let to = new(&make());
    let last = put(&to, "t", &[b"1"])[0];
    let import = |id| {
        let message = StoredMessage {
            place: ScanCursor::Log(id),
            body: (*b"2").into(),
            priority: 4,
            deliveries: 0,
            expires: None,
            origin: None,
            looks: 0,
        };
        Op::Import { topic: topic("t"), message: Box::new(message) }
    };
    let mut batch = Batch::default();
    batch.ops.extend([last + 9, last + 9, last - 1, last + 10].map(import));
    batch.put(topic("t"), b"3", None);
    batch.ops.push(import(last + 10));
    to.store.apply(&mut batch);
    let codes: Vec<_> = batch.outcomes.iter().map(|o| o.as_ref().err().map(|e| e.code)).collect();
    let refused = Some(Code::StoreFailed);
    assert_eq!(codes, [None, refused, refused, None, None, refused]);
    let ids: Vec<_> = take_all(&to, "t").iter().map(|taken| taken.0).collect();
    assert_eq!(ids[..3], [last, last + 9, last + 10]);
    assert_eq!(ids.len(), 4);
}

fn scan_is_bounded(make: &dyn Fn() -> Open) {
    let store = new(&make());
    let some = |name: &str| {
        let state = store.store.topic(name).unwrap();
        store.store.scan(&state, ScanCursor::START).unwrap().len()
    };
    put(&store, "small", &vec![&b"1"[..]; limits::COPY_MESSAGES + 1]);
    assert_eq!(some("small"), limits::COPY_MESSAGES);
    let half = vec![b'7'; limits::COPY_BYTES / 2];
    put(&store, "large", &[&half, &half, &half, &half]);
    assert_eq!(some("large"), 2);
    let much = vec![b'7'; limits::COPY_BYTES + 1];
    put(&store, "larger", &[&much, &much]);
    assert_eq!(some("larger"), 1);
    let to = memory();
    copy_all(&store, &to).unwrap();
    for name in ["small", "large", "larger"] {
        assert_same(&store, &to, name);
    }
}

fn ids_continue_after_the_copy(make: &dyn Fn() -> Open) {
    let (from, open) = (memory(), make());
    NOW.set(clock() + 3_600_000_000);
    put(&from, "t", &[b"1", b"2"]);
    let last = put(&from, "t", &[b"3"])[0];
    one(&from, Op::Delete { topic: topic("t"), id: last }).unwrap();
    one(&from, Op::SetStopped { topic: topic("empty"), stopped: true }).unwrap();
    one(&from, Op::SetPolicy { topic: topic("empty"), policy: Policy::Broadcast }).unwrap();
    NOW.set(clock() - 3_600_000_000);
    let to = new(&open);
    copy_all(&from, &to).unwrap();
    drop(to);
    let to = new(&open);
    let counts = to.store.topic("empty").unwrap().counts();
    assert_eq!((counts.stopped, counts.policy), (true, Some(Policy::Broadcast)));
    assert_eq!(to.store.topic("t").unwrap().newest(), last);
    assert!(to.store.last_id() >= last && put(&to, "t", &[b"4"])[0] > last);
}

fn topics_are_chosen_by_name(make: &dyn Fn() -> Open) {
    let from = memory();
    for name in ["a", "ab", "b", "b*"] {
        put(&from, name, &[b"1"]);
    }
    let copied = |chosen: &[&str]| {
        let to = new(&make());
        let chosen: Vec<_> = chosen.iter().map(|name| name.to_string()).collect();
        copy(&from, &to, &chosen, |_| {}).map(|_| names(&to))
    };
    assert_eq!(copied(&["a"]).unwrap(), ["a"]);
    assert_eq!(copied(&["a*", "a", "b"]).unwrap(), ["a", "ab", "b"]);
    assert_eq!(copied(&["*"]).unwrap(), ["a", "ab", "b", "b*"]);
    assert_eq!(copied(&["a", "c*"]), Err("memory: there is no topic \"c*\"".to_owned()));
}

fn concurrent_use_of_a_store_is_detected(make: &dyn Fn() -> Open) {
    let (from, to) = (memory(), new(&make()));
    put(&from, "t", &vec![&b"1"[..]; 3_000]);
    let mut more = 3;
    let copied = copy(&from, &to, &[], |_| {
        more -= 1;
        if more == 0 {
            take(&to, "t").unwrap();
        }
    });
    let error = copied.unwrap_err();
    assert!(error.starts_with("new: the topic \"t\" has 2999 messages, and 3000"), "{error}");
}
