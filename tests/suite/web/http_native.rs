//! Our own HTTP interface, byte for byte: every route under /t/ and every error.

use dsmq::{Config, Server, limits};
use serde_json::{Value, json};

use super::http::{Response, ask, get, post, response};
use crate::suite::support::peer::{Peer, masked};
use crate::suite::support::{server, server_with};

const ID: &str = "1795216135066522";
const TIME: &str = "1795216135.066522";

pub fn connect(server: &Server) -> Peer {
    Peer::connect_silent(server.addr())
}

pub fn with(request: &str, header: &str) -> String {
    request.replacen("HTTP/1.1\r\n", &format!("HTTP/1.1\r\n{header}\r\n"), 1)
}

fn delete(path: &str) -> String {
    get(path).replacen("GET", "DELETE", 1)
}

/// Asserts the complete response, ignoring ids and times.
pub fn expect(peer: &mut Peer, request: &str, status: u16, body: &str) -> Response {
    let answer = ask(peer, request);
    assert_eq!((answer.status, masked(&answer.body)), (status, masked(body)), "{request}");
    assert!(answer.header.contains("content-type: application/json\r\n"), "{answer:?}");
    answer
}

pub fn id_in(answer: &Response) -> u64 {
    serde_json::from_str::<Value>(&answer.body).unwrap()["id"].as_u64().unwrap()
}

#[test]
fn body_is_json_or_text() {
    let server = server();
    let mut peer = connect(&server);
    let stored = format!("{{\"ok\":true,\"id\":{ID},\"timestamp\":{TIME}}}");
    for (kind, body, message) in [
        ("application/json", " {\"b\": 1.50,\r\n \"a\":[ ]}\n", "{\"b\": 1.50,\r\n \"a\":[ ]}"),
        ("application/json; charset=utf-8", "\"\\ud800\"", "\"\\ud800\""),
        ("application/ld+json", "null", "null"),
        ("text/plain", "[1, 2]\n", "\"[1, 2]\\n\""),
        ("text/plain; charset=utf-8", "", "\"\""),
        ("image/svg+xml", "<a b=\"é\"/>", "\"<a b=\\\"é\\\"/>\""),
        ("application/x-www-form-urlencoded", "{\"a\":1}", "{\"a\":1}"),
        ("application/x-www-form-urlencoded", "1.50 ", "1.50"),
        ("application/x-www-form-urlencoded", "Hello%20you", "\"Hello%20you\""),
        ("application/x-www-form-urlencoded", "{\"a\":1", "\"{\\\"a\\\":1\""),
        ("", "true", "true"),
        ("", "truely", "\"truely\""),
    ] {
        expect(
            &mut peer,
            &with(&post("/t/t", body), &format!("Content-Type: {kind}")),
            200,
            &stored,
        );
        let taken =
            format!("{{\"message\":{message},\"id\":{ID},\"timestamp\":{TIME},\"deliveries\":1}}");
        expect(&mut peer, &post("/t/t/take", ""), 200, &taken);
    }
    let deep = "[".repeat(limits::DEPTH_LEVELS + 1) + &"]".repeat(limits::DEPTH_LEVELS + 1);
    for (kind, body, code) in [
        ("application/json", "{", "bad_json"),
        ("application/json", "", "bad_json"),
        ("application/json", "1 2", "bad_json"),
        ("application/json", "1,\"action\":\"purge\"", "bad_json"),
        ("application/json", &deep, "too_deep"),
        ("application/x-www-form-urlencoded", &deep, "too_deep"),
        ("application/x-www-form-urlencoded", "", "missing_field"),
        ("", "", "missing_field"),
    ] {
        let request = with(&post("/t/t", body), &format!("Content-Type: {kind}"));
        let refused = ask(&mut peer, request);
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{body}");
    }
    for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
        let head = with(&post("/t/t", "??"), &format!("Content-Type: {kind}"));
        peer.send([head.trim_end_matches('?').as_bytes(), b"\"\xff"].concat());
        let refused = response(&mut peer);
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_utf8"), "{kind}");
    }
    expect(&mut peer, &post("/t/t/take", ""), 200, "{\"message\":\"\",\"empty\":true}");
}

#[test]
fn put_takes_options_from_the_query() {
    let server = server();
    let mut peer = connect(&server);
    expect(&mut peer, &post("/t/t?confirm=false", "1"), 202, "{\"ok\":true}");
    expect(&mut peer, &post("/t/t?delay=60", "2"), 200, &format!("{{\"ok\":true,\"due\":{TIME}}}"));
    let stored = format!("{{\"ok\":true,\"id\":{ID},\"timestamp\":{TIME}");
    // A dedupe key is text, even if it looks like a number.
    let first = expect(&mut peer, &post("/t/t?dedupe=7", "3"), 200, &(stored.clone() + "}"));
    let again = ",\"duplicate\":true}";
    let second = expect(&mut peer, &post("/t/t?dedupe=7", "3"), 200, &(stored.clone() + again));
    assert_eq!(id_in(&first), id_in(&second));
    expect(&mut peer, &post("/t/t?ttl=0", "4"), 200, &(stored.clone() + "}"));
    expect(&mut peer, &post("/t/t?priority=9&unknown=x", "5"), 200, &(stored + "}"));
    let page = ask(&mut peer, get("/t/t"));
    let page: Value = serde_json::from_str(&page.body).unwrap();
    let messages: Vec<&Value> =
        page["messages"].as_array().unwrap().iter().map(|m| &m["message"]).collect();
    assert_eq!(messages, [&json!(1), &json!(3), &json!(5)]);
    assert!(ask(&mut peer, post("/t/t/take", "")).body.starts_with("{\"message\":5,"));
    for query in [
        "priority=10",
        "priority=x",
        "ttl=-1",
        "ttl=",
        "delay=null",
        "confirm=1",
        "confirm",
        "delay=[1]",
        "priority=1%7D",
        "ttl=1e400",
    ] {
        let refused = ask(&mut peer, post(&format!("/t/t?{query}"), "1"));
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_field"), "{query}");
    }
    let long = format!("/t/t?dedupe={}", "x".repeat(limits::DEDUPE_BYTES + 1));
    assert_eq!(ask(&mut peer, post(&long, "1")).code(), "bad_field");
}

#[test]
fn page_starts_after_an_id_and_names_the_last() {
    let server = server();
    let mut peer = connect(&server);
    expect(&mut peer, &get("/t/t"), 200, "{\"messages\":[],\"last\":0}");
    let ids: Vec<u64> =
        (0..5).map(|n| id_in(&ask(&mut peer, post("/t/t", &n.to_string())))).collect();
    let (mut since, mut seen) = (0, Vec::new());
    for _ in 0..3 {
        let page = ask(&mut peer, get(&format!("/t/t?since={since}&limit=2")));
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let messages = page["messages"].as_array().unwrap().clone();
        since = page["last"].as_u64().unwrap();
        assert_eq!(messages.last().unwrap()["id"], since);
        seen.extend(messages.iter().map(|m| (m["message"].clone(), m["id"].as_u64().unwrap())));
    }
    let expected: Vec<_> = ids.iter().enumerate().map(|(n, id)| (json!(n), *id)).collect();
    assert_eq!(seen, expected);
    let none = format!("{{\"messages\":[],\"last\":{since}}}");
    expect(&mut peer, &get(&format!("/t/t?since={since}")), 200, &none);
    let one = format!(
        "{{\"messages\":[{{\"message\":4,\"id\":{ID},\"timestamp\":{TIME}}}],\"last\":{ID}}}"
    );
    expect(&mut peer, &get(&format!("/t/t?since={}", ids[3])), 200, &one);
    for query in
        ["since=-1", "since=x", "since=9007199254740992", "limit=0", "limit=1001", "wait=-1"]
    {
        let refused = ask(&mut peer, get(&format!("/t/t?{query}")));
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_field"), "{query}");
    }
}

/// More messages than a chunk holds, and larger ones.
#[test]
fn page_holds_up_to_the_requested_limit() {
    let server = server();
    let mut json = Peer::connect(server.addr());
    for n in 0..999 {
        json.send(format!(r#"{{"action":"put","topic":"t","message":{n}}}"#));
    }
    json.ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    let mut peer = connect(&server);
    for (limit, count) in [(1, 1), (300, 300), (1_000, 999)] {
        let page = ask(&mut peer, get(&format!("/t/t?limit={limit}")));
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let numbers: Vec<u64> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["message"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (0..count).collect::<Vec<u64>>());
    }
}

#[test]
fn lease_fields_come_from_form_query_or_json() {
    let server = server();
    let mut peer = connect(&server);
    let nothing = "{\"message\":\"\",\"empty\":true}";
    let taken = |deliveries: u32| {
        format!("{{\"message\":1,\"id\":{ID},\"timestamp\":{TIME},\"deliveries\":{deliveries}}}")
    };
    ask(&mut peer, post("/t/t", "1"));
    let first = expect(&mut peer, &post("/t/t/take?lease=60", ""), 200, &taken(1));
    let id = id_in(&first);
    expect(&mut peer, &post("/t/t/take", ""), 200, nothing);
    let nack = post("/t/t/nack", &format!("id={id}&deliveries=1"));
    expect(&mut peer, &nack, 200, "{\"ok\":true}");
    assert_eq!(ask(&mut peer, nack).status, 410);
    expect(&mut peer, &post("/t/t/take", "lease=60"), 200, &taken(2));
    let nack = post("/t/t/nack", &format!("{{\"id\":{id},\"deliveries\":2,\"delay\":0.001}}"));
    expect(&mut peer, &nack, 200, "{\"ok\":true}");
    // The body overrides the query, and the path overrides both.
    let take = post(
        "/t/t/take?lease=x",
        " {\"lease\":60, \"wait\":60, \"topic\":\"u\",\"action\":\"purge\"} ",
    );
    expect(&mut peer, &take, 200, &taken(3));
    let ack = post(&format!("/t/t/ack?id={id}&deliveries=3"), "");
    expect(&mut peer, &ack, 200, "{\"ok\":true}");
    let gone = ask(&mut peer, ack);
    assert_eq!((gone.status, gone.code().as_str()), (410, "gone"));
    for (path, body, code) in [
        ("/t/t/ack", "", "missing_field"),
        ("/t/t/ack", "id=1", "missing_field"),
        ("/t/t/ack", "id=x&deliveries=1", "bad_field"),
        ("/t/t/nack", "{\"id\":1,\"deliveries\":1,\"delay\":-1}", "bad_field"),
        ("/t/t/take?wait=3601", "", "bad_field"),
        ("/t/t/take", "{", "bad_json"),
        ("/t/t/take", "{}{}", "bad_json"),
        ("/t/t/take", "{\"lease\":1}}", "bad_json"),
        ("/t/t/take", "{\"lease\":1,}", "bad_json"),
    ] {
        let refused = ask(&mut peer, post(path, body));
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{path} {body}");
    }
}

#[test]
fn every_action_has_a_route() {
    let server = server();
    let mut peer = connect(&server);
    expect(&mut peer, &get("/t/"), 200, "{\"topics\":[]}");
    expect(&mut peer, &post("/t/t/peek", ""), 200, "{\"message\":\"\",\"empty\":true}");
    let ids: Vec<u64> =
        (1..4).map(|n| id_in(&ask(&mut peer, post("/t/t", &n.to_string())))).collect();
    let message = |n: u64| format!("{{\"message\":{n},\"id\":{ID},\"timestamp\":{TIME}}}");
    let history = format!("{{\"messages\":[{},{}]}}", message(2), message(3));
    expect(&mut peer, &get("/t/t/history?limit=2"), 200, &history);
    ask(&mut peer, post("/t/t?delay=60", "4"));
    let delayed = format!("{{\"messages\":[{{\"message\":4,\"due\":{TIME}}}]}}");
    expect(&mut peer, &get("/t/t/history?delayed=true"), 200, &delayed);
    let peeked = |looks: u32| {
        format!("{{\"message\":1,\"id\":{ID},\"timestamp\":{TIME},\"looks\":{looks}}}")
    };
    expect(&mut peer, &post("/t/t/peek", ""), 200, &peeked(1));
    expect(&mut peer, &post("/t/t/peek", ""), 200, &peeked(2));
    let delete_one = delete(&format!("/t/t/{}", ids[1]));
    expect(&mut peer, &delete_one, 200, "{\"ok\":true,\"deleted\":true}");
    expect(&mut peer, &delete_one, 200, "{\"ok\":true,\"deleted\":false}");
    assert_eq!(ask(&mut peer, delete("/t/t/x")).code(), "bad_field");
    expect(&mut peer, &post("/t/t/stop", ""), 200, "{\"ok\":true,\"state\":\"stopped\"}");
    expect(&mut peer, &post("/t/t/start", ""), 200, "{\"ok\":true,\"state\":\"started\"}");
    expect(&mut peer, &get("/t/t/policy"), 200, "{\"ok\":true,\"policy\":null}");
    let set = "{\"ok\":true,\"policy\":\"roundrobin\"}";
    expect(&mut peer, &post("/t/t/policy", "policy=roundrobin"), 200, set);
    expect(&mut peer, &get("/t/t/policy?policy=broadcast"), 200, set);
    assert_eq!(ask(&mut peer, post("/t/t/policy", "policy=1")).code(), "bad_field");
    let topics: Value = serde_json::from_str(&ask(&mut peer, get("/t/")).body).unwrap();
    let mut json = Peer::connect(server.addr());
    json.send(r#"{"action":"topics"}"#);
    assert_eq!(topics, json.receive_reply());
    let stats: Value = serde_json::from_str(&ask(&mut peer, get("/t/?stats")).body).unwrap();
    assert_eq!(stats["stats"]["messages"], 2);
    expect(&mut peer, &delete("/t/t"), 200, "{\"ok\":true,\"purged\":3}");
    let described: Value =
        serde_json::from_str(&ask(&mut peer, get("/openapi.json")).body).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
}

#[test]
fn topic_name_may_hold_any_character() {
    let server = server();
    let (mut peer, mut json) = (connect(&server), Peer::connect(server.addr()));
    for (path, name) in [
        ("a%2Fb", "a/b"),
        ("%C3%A9%F0%9F%A6%80", "é🦀"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%22%5C%7B", "\"\\{"),
        ("take", "take"),
        ("%2E%2E", ".."),
    ] {
        assert_eq!(ask(&mut peer, post(&format!("/t/{path}"), "1")).status, 200);
        let taken = json!({ "action": "take", "topic": name }).to_string();
        json.send(taken);
        assert_eq!(json.receive_reply()["message"], 1, "{name}");
        expect(
            &mut peer,
            &post(&format!("/t/{path}/take"), ""),
            200,
            "{\"message\":\"\",\"empty\":true}",
        );
    }
    let long = "x".repeat(limits::TOPIC_BYTES + 1);
    for (method, path) in [
        ("POST", "/t/%00"),
        ("GET", "/t/%FF"),
        ("DELETE", "/t/%0A"),
        ("GET", &format!("/t/{long}/history")),
    ] {
        let refused = ask(&mut peer, get(path).replacen("GET", method, 1));
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_topic"), "{path}");
    }
    for (request, status, code) in [
        (get("/t/t/nothing/here"), 404, "not_found"),
        (get("/t/t/take"), 405, "method_not_allowed"),
        (get("/t/t").replacen("GET", "PUT", 1), 405, "method_not_allowed"),
        (post("/t/", ""), 405, "method_not_allowed"),
    ] {
        let refused = ask(&mut peer, request);
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
    }
}

#[test]
fn message_one_byte_over_the_limit_is_refused() {
    let server = server();
    let mut peer = connect(&server);
    let large = "x".repeat(limits::MESSAGE_BYTES - 2);
    assert_eq!(ask(&mut peer, with(&post("/t/t", &large), "Content-Type: text/plain")).status, 200);
    let page = ask(&mut peer, get("/t/t"));
    assert!(page.body.starts_with(&format!("{{\"messages\":[{{\"message\":\"{large}\",")));
    for (kind, body) in
        [("text/plain", large.clone() + "x"), ("application/json", format!("\"{large}x\""))]
    {
        let request = with(&post("/t/t", &body), &format!("Content-Type: {kind}"));
        let refused = ask(&mut peer, request);
        assert_eq!((refused.status, refused.code().as_str()), (413, "message_too_large"), "{kind}");
    }
}

#[test]
fn requests_may_be_split_and_joined_anywhere() {
    let server = server();
    let all = post("/t/t?priority=5", "{\"a\": 1}")
        + &post("/t/t/take?lease=60", "")
        + &get("/t/t?limit=1")
        + &delete("/t/t");
    for piece in [1, 7, all.len()] {
        let mut peer = connect(&server);
        all.as_bytes().chunks(piece).for_each(|piece| peer.send(piece));
        for begin in [
            "{\"ok\":true,",
            "{\"message\":{\"a\": 1},",
            "{\"messages\":[{\"message\":{\"a\": 1},",
            "{\"ok\":true,\"purged\":1}",
        ] {
            let answer = response(&mut peer);
            assert!(answer.body.starts_with(begin), "{answer:?}");
        }
    }
}

#[test]
fn full_store_refuses_puts() {
    let config =
        Config { max_store: 1 << 20, when_full: Some(dsmq::WhenFull::Refuse), ..Config::default() };
    let server = server_with(config);
    let mut peer = connect(&server);
    let body = "x".repeat(100_000);
    let refused = (0..100).map(|_| ask(&mut peer, post("/t/t", &body))).find(|r| r.status != 200);
    let refused = refused.expect("it is never full");
    assert_eq!((refused.status, refused.code().as_str()), (507, "full"));
}
