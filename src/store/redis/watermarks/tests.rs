//! Tests of watermark queries, without a Redis.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn known(last: Id, clock: Id, arrived: Instant) -> PartitionReply {
    PartitionReply::Known { last, time: ClockReading { clock, arrived } }
}

#[test]
fn bound_is_below_ids_assigned_later() {
    let accepted = Instant::now();
    let arrived = accepted + 3 * MILLISECOND;
    // No put since; a put since; a clock that was set back.
    assert_eq!(known(4_000, 10_000, arrived).bound_at(accepted), Some(4_000));
    assert_eq!(known(9_000, 10_000, arrived).bound_at(accepted), Some(7_000));
    assert_eq!(known(10_001, 10_000, arrived).bound_at(accepted), None);
    assert_eq!(known(500, 1_000, arrived).bound_at(accepted), Some(0));
    assert_eq!(PartitionReply::Unknown.bound_at(accepted), None);
}

#[test]
fn concurrent_sessions_share_one_query() {
    let watermarks = QuerySlot::default();
    let [first, second] = [watermarks.join(2), watermarks.join(2)];
    assert!(Arc::ptr_eq(&first, &second));
    let put = watermarks.next().unwrap();
    assert!(Arc::ptr_eq(&first, &put) && !Arc::ptr_eq(&first, &watermarks.join(2)));
    let left = watermarks.join(2);
    watermarks.end();
    assert!(watermarks.next().is_none());
    // A cancelled query is resolved at once.
    for query in [left, watermarks.join(2)] {
        assert_eq!(*lock(&query.state).answers, [Some(PartitionReply::Unknown); 2]);
    }
}

#[test]
fn waiting_queries_of_a_node_are_coalesced() {
    let info = redis::IntoConnectionInfo::into_connection_info("redis://127.0.0.1:1").unwrap();
    let node_pool = Arc::new(NodePool::new(info, 1).unwrap());
    let node_query = |partitions: &[usize]| NodeQuery {
        node_pool: node_pool.clone(),
        partitions: partitions.to_vec(),
        keys: Vec::new(),
        has_test_clock: false,
    };
    let queue = Mutex::new(WatermarkQueries { busy: true, ..WatermarkQueries::default() });
    let queries: [_; 4] = std::array::from_fn(|_| Arc::new(Query::new(2)));
    for (query, partitions) in queries.iter().zip([&[0, 1][..], &[0, 1], &[1], &[0, 1]]) {
        lock(&queue).waiting.push((query.clone(), node_query(partitions)));
    }
    let now = Instant::now();
    let mut calls = Vec::new();
    while let Some((some, node_query)) = next_queries(&queue) {
        calls.push(some.len());
        node_query.resolve(&some, &[known(7, 9, now), known(8, 9, now)]);
    }
    assert_eq!((calls, lock(&queue).busy), (vec![3, 1], false));
    let told = |place: usize, partition| queries[place].last_id(partition);
    assert_eq!([told(0, 0), told(1, 1), told(2, 1), told(3, 0)], [7, 8, 7, 7].map(Some));
}

#[test]
fn reply_of_one_partition_does_not_wait_for_others() {
    let query = Query::new(3);
    let now = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| query.last_id(1));
        // The query becomes urgent once a thread waits.
        while !lock(&query.state).urgent {
            std::thread::yield_now();
        }
        query.resolve(&[1, 2], [known(7, 9, now), PartitionReply::Unknown].into_iter());
        assert_eq!(waiting.join().unwrap(), Some(7));
    });
    assert_eq!((query.last_id(1), query.last_id(2)), (Some(7), None));
    assert_eq!(query.last_id(3), None, "there is none");
}
