//! A Redis without free memory (maxmemory): puts are refused, and operations that free memory
//! work.

use serde_json::{Value, json};

use super::Redis;
use crate::suite::support::peer::{Peer, ask};

const MESSAGES: u64 = 20;

fn fill(redis: &Redis) {
    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).trim(), "OK");
}

fn put(peer: &mut Peer, message: u64) -> Value {
    ask(peer, &json!({"action":"put","topic":"t","message":message,"confirm":true}))
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn full_redis_refuses_puts_and_can_be_drained() {
    let redis = Redis::start();
    let first = redis.server();
    let mut peer = Peer::connect(first.addr());
    for message in 0..MESSAGES {
        assert_eq!(put(&mut peer, message)["ok"], true);
    }
    fill(&redis);
    // A server started now works as well.
    let server = redis.server();
    let mut peer = Peer::connect(server.addr());
    let mut last: Option<Value> = None;
    for message in 0..MESSAGES {
        // Pipelined requests, before and after an ack.
        let put = json!({"action":"put","topic":"t","message":"no","confirm":true,"tag":"put"});
        let take = json!({"action":"take","topic":"t","lease":60});
        let ack = last.take().map(|last| {
            json!({
                "action": "ack", "topic": "t", "id": last["id"], "deliveries": last["deliveries"],
                "tag": "ack",
            })
        });
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        peer.send(format!("{put}{ack}{put}{take}{put}"));
        peer.expect_error("full");
        if !ack.is_empty() {
            assert_eq!(peer.receive_reply(), json!({"ok": true, "tag": "ack"}));
        }
        peer.expect_error("full");
        let taken = peer.receive_reply();
        assert_eq!(taken["message"], message, "{taken}");
        last = Some(taken);
        peer.expect_error("full");
    }
    let last = last.unwrap();
    let ack = json!({"action":"ack","topic":"t","id":last["id"],"deliveries":last["deliveries"]});
    assert_eq!(ask(&mut peer, &ack), json!({"ok": true}));
    assert_eq!(redis.ask(&["XLEN", "dsmq:{0}:log:t"]).trim(), "0");
    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).trim(), "OK");
    assert_eq!(put(&mut peer, 1)["ok"], true);
}

#[test]
#[ignore = "needs redis-server: make test runs it"]
fn due_work_is_done_in_a_full_redis() {
    let redis = Redis::start();
    let server = redis.server();
    let mut peer = Peer::connect(server.addr());
    for message in 0..3 {
        assert_eq!(put(&mut peer, message)["ok"], true);
    }
    let take = |peer: &mut Peer, lease: f64| {
        ask(peer, &json!({"action":"take","topic":"t","lease":lease,"wait":60}))
    };
    let end = |peer: &mut Peer, action: &str, taken: Value| {
        let (id, deliveries) = (&taken["id"], &taken["deliveries"]);
        let end = json!({"action":action,"topic":"t","id":id,"deliveries":deliveries,"delay":0.05});
        assert_eq!(ask(peer, &end)["ok"], true);
    };
    // Each lease is longer than the work done meanwhile. When the first would have ended, `tick`
    // only has to find the next due time.
    let (first, _held) = (take(&mut peer, 2.0), take(&mut peer, 4.0));
    end(&mut peer, "ack", first);
    fill(&redis);
    let delayed = take(&mut peer, 60.0);
    end(&mut peer, "nack", delayed);
    let mut again = [take(&mut peer, 60.0), take(&mut peer, 60.0)];
    again.sort_by_key(|taken| taken["message"].as_u64());
    for (taken, message) in again.iter().zip([1, 2]) {
        assert_eq!((&taken["message"], &taken["deliveries"]), (&json!(message), &json!(2)));
    }
}
