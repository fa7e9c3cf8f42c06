//! Tests of the topic cache, without a Redis.

use super::*;

/// An update of the topic "t".
fn update_text(created: u64, version: u64, newest: Id, removals: u64, flags: u64) -> String {
    let mut fields = [0; FIELDS];
    (fields[0], fields[2], fields[3], fields[5]) = (version, removals, newest, newest);
    let fields = fields.map(|field| field.to_string()).join(" ");
    format!("server {created} 1000 {newest} 5000 77\nt\n{flags} {fields}")
}

fn apply_update(cache: &TopicCache, update_text: &str, from: UpdateSource) -> (usize, usize) {
    let Due { put, returned } = cache.apply_update(update_text, from, 400).unwrap();
    (put.len(), returned.len())
}

#[test]
fn late_update_changes_nothing_but_notifies() {
    let cache = TopicCache::new(0, Arc::default());
    assert!(cache.state("t").is_none());
    assert_eq!(apply_update(&cache, &update_text(1, 2, 20, 0, PUT), UpdateSource::Local), (1, 0));
    let topic_state = cache.state("t").unwrap();
    assert_eq!((topic_state.newest(), topic_state.counts().length, cache.last_id()), (20, 20, 20));
    assert_eq!((cache.clock(400), cache.due(), cache.bytes()), (1_000, 5_000, 77));
    // Waiting clients have not heard of this update by another server.
    assert_eq!(apply_update(&cache, &update_text(1, 1, 10, 0, PUT), UpdateSource::Remote), (1, 0));
    assert_eq!((topic_state.newest(), topic_state.counts().length, cache.last_id()), (20, 20, 20));
    assert_eq!(
        apply_update(&cache, &update_text(1, 3, 20, 1, RETURNED), UpdateSource::Remote),
        (0, 1)
    );
    assert_eq!(topic_state.removals(), 1);
}

#[test]
fn late_update_still_delivers_put_back_ids() {
    let cache = TopicCache::new(0, Arc::default());
    apply_update(&cache, &update_text(1, 2, 20, 0, PUT), UpdateSource::Local);
    let topic_state = cache.state("t").unwrap();
    assert_eq!(
        (topic_state.put_backs_after(0), topic_state.is_taken_from()),
        ((0, Some(vec![])), true)
    );
    let put_back = |version| update_text(1, version, 20, 2, RETURNED) + " 15 17";
    assert_eq!(apply_update(&cache, &put_back(4), UpdateSource::Remote), (1, 1));
    assert_eq!(
        apply_update(&cache, &put_back(3), UpdateSource::Remote),
        (1, 1),
        "older than what is known"
    );
    assert_eq!(topic_state.put_backs_after(1), (4, Some(vec![17, 15, 17])));
    assert!(
        cache
            .apply_update(&(update_text(1, 5, 20, 3, 0) + " x"), UpdateSource::Remote, 400)
            .is_none()
    );
    // Ids put back during an interruption of the feed are unknown.
    let mut fields = [0; FIELDS];
    (fields[0], fields[PUT_BACKS]) = (6, 1);
    let all = format!("server 1 1000 20 5000 77\nt\n0 {}", fields.map(|f| f.to_string()).join(" "));
    apply_update(&cache, &all, UpdateSource::Resync);
    assert_eq!(topic_state.put_backs_after(4), (5, None));
}

#[test]
fn resync_notifies_and_accepts_lower_versions() {
    let cache = TopicCache::new(0, Arc::default());
    apply_update(&cache, &update_text(1, 5, 10, 0, 0), UpdateSource::Startup);
    assert_eq!(apply_update(&cache, &update_text(1, 7, 20, 0, 0), UpdateSource::Resync), (1, 1));
    // Redis lost its latest changes.
    cache.begin_listing();
    assert_eq!(apply_update(&cache, &update_text(1, 6, 15, 0, 0), UpdateSource::Resync), (1, 1));
    assert_eq!(cache.state("t").unwrap().counts().length, 15);
    apply_update(&cache, &update_text(1, 7, 30, 0, 0), UpdateSource::Local);
    assert_eq!(cache.state("t").unwrap().counts().length, 30);
}

#[test]
fn lost_topic_reuses_its_state_when_it_returns() {
    let cache = TopicCache::new(0, Arc::default());
    apply_update(&cache, &update_text(1, 20, 20, 0, 0), UpdateSource::Startup);
    let topic_state = cache.state("t").unwrap();
    cache.begin_listing();
    cache.apply_update("server 1 1000 20 5000 0", UpdateSource::Resync, 400).unwrap();
    cache.end_listing();
    assert_eq!(topic_state.counts().length, 0);
    assert!(cache.state("t").is_none() && cache.states().is_empty());
    assert_eq!((cache.topics(), cache.total.topics()), (0, 0));
    apply_update(&cache, &update_text(1, 1, 30, 0, PUT), UpdateSource::Remote);
    assert_eq!((topic_state.counts().length, topic_state.newest()), (30, 30));
    // Holders of the old state see the topic that is new.
    assert!(Arc::ptr_eq(&topic_state, &cache.state("t").unwrap()));
    assert_eq!((cache.states().len(), cache.topics(), cache.total.topics()), (1, 1, 1));
}

#[test]
fn listing_does_not_override_newer_updates() {
    let cache = TopicCache::new(0, Arc::default());
    apply_update(&cache, &update_text(1, 5, 10, 0, 0), UpdateSource::Startup);
    cache.begin_listing();
    apply_update(&cache, &update_text(1, 6, 20, 0, PUT), UpdateSource::Local);
    apply_update(&cache, &update_text(1, 5, 10, 0, 0), UpdateSource::Resync);
    cache.end_listing();
    assert_eq!(cache.state("t").unwrap().counts().length, 20);
    // The same for a topic that the listing does not contain.
    cache.begin_listing();
    apply_update(&cache, &update_text(1, 7, 30, 0, PUT), UpdateSource::Local);
    cache.end_listing();
    assert_eq!(cache.state("t").unwrap().counts().length, 30);
}

#[test]
fn store_created_anew_clears_the_cache() {
    let cache = TopicCache::new(0, Arc::default());
    apply_update(&cache, &update_text(1, 50, 10, 0, 0), UpdateSource::Startup);
    let topic_state = cache.state("t").unwrap();
    assert!(cache.apply_update("server 2 1000 10 5000 0", UpdateSource::Local, 400).is_some());
    assert_eq!((topic_state.counts().length, topic_state.removals(), cache.topics()), (0, 1, 0));
    apply_update(&cache, &update_text(2, 1, 20, 0, PUT), UpdateSource::Local);
    assert_eq!((topic_state.counts().length, topic_state.newest()), (20, 20));
}

#[test]
fn malformed_update_is_rejected() {
    let cache = TopicCache::new(0, Arc::default());
    for wrong in ["", "server", "server 1 2 3", "server 1 2 3 4 x", "s 1 2 3 4 5\nt\n1 2 3"] {
        assert!(cache.apply_update(wrong, UpdateSource::Remote, 0).is_none(), "{wrong:?}");
    }
}
