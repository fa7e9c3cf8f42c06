//! Tests of when sessions begin.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn known(last: Id, clock: Id, arrived: Instant) -> PartitionReply {
    PartitionReply::Known { last, time: ClockReading { clock, arrived } }
}

#[test]
fn what_was_put_since_is_above_what_the_clock_said() {
    let accepted = Instant::now();
    let arrived = accepted + 3 * MILLISECOND;
    // Nothing was put since, something was; the clock was set back.
    assert_eq!(known(4_000, 10_000, arrived).by(accepted), Some(4_000));
    assert_eq!(known(9_000, 10_000, arrived).by(accepted), Some(7_000));
    assert_eq!(known(10_001, 10_000, arrived).by(accepted), None);
    assert_eq!(known(500, 1_000, arrived).by(accepted), Some(0));
    assert_eq!(PartitionReply::Unknown.by(accepted), None);
}

#[test]
fn one_question_is_for_all_who_come_before_it_is_put() {
    let watermarks = QuerySlot::default();
    let [first, second] = [watermarks.ask(2), watermarks.ask(2)];
    assert!(Arc::ptr_eq(&first, &second));
    let put = watermarks.next().unwrap();
    assert!(Arc::ptr_eq(&first, &put) && !Arc::ptr_eq(&first, &watermarks.ask(2)));
    let left = watermarks.ask(2);
    watermarks.end();
    assert!(watermarks.next().is_none());
    // Nobody waits for an answer that does not come.
    for query in [left, watermarks.ask(2)] {
        assert_eq!(*lock(&query.state).answers, [Some(PartitionReply::Unknown); 2]);
    }
}

#[test]
fn what_a_node_was_not_asked_yet_is_one_question_then() {
    let info = redis::IntoConnectionInfo::into_connection_info("redis://127.0.0.1:1").unwrap();
    let node_pool = Arc::new(NodePool::new(info, 1).unwrap());
    let node_query = |partitions: &[usize]| NodeQuery {
        node_pool: node_pool.clone(),
        partitions: partitions.to_vec(),
        keys: Vec::new(),
        has_other_clock: false,
    };
    let queue = Mutex::new(WatermarkQueries { busy: true, ..WatermarkQueries::default() });
    let queries: [_; 4] = std::array::from_fn(|_| Arc::new(Query::new(2)));
    for (query, partitions) in queries.iter().zip([&[0, 1][..], &[0, 1], &[1], &[0, 1]]) {
        lock(&queue).waiting.push((query.clone(), node_query(partitions)));
    }
    let now = Instant::now();
    let mut asked = Vec::new();
    while let Some((some, node_query)) = next(&queue) {
        asked.push(some.len());
        node_query.resolve(&some, &[known(7, 9, now), known(8, 9, now)]);
    }
    assert_eq!((asked, lock(&queue).busy), (vec![3, 1], false));
    let told = |place: usize, partition| queries[place].last_id(partition);
    assert_eq!([told(0, 0), told(1, 1), told(2, 1), told(3, 0)], [7, 8, 7, 7].map(Some));
}

#[test]
fn who_waits_for_a_part_is_told_whatever_becomes_of_the_others() {
    let query = Query::new(3);
    let now = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| query.last_id(1));
        // It hurries as soon as it waits.
        while !lock(&query.state).urgent {
            std::thread::yield_now();
        }
        query.resolve(&[1, 2], [known(7, 9, now), PartitionReply::Unknown].into_iter());
        assert_eq!(waiting.join().unwrap(), Some(7));
    });
    assert_eq!((query.last_id(1), query.last_id(2)), (Some(7), None));
    assert_eq!(query.last_id(3), None, "there is none");
}
