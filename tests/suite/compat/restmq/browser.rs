//! RestMQ in a browser: JSONP answers, pages, and requests from foreign pages.

use std::net::SocketAddr;

use dsmq::Config;

use super::{Rest, delete};
use crate::suite::support::peer::Peer;
use crate::suite::support::{server, server_with};
use crate::suite::web::http::get;

#[test]
fn jsonp_answers_call_the_given_callback() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let key = "test:1795216135066522";
    rest.post("/q/test?callback=cb", "value=1", &format!("cb(\"{key}\");\r\n"));
    rest.post("/?callback=cb", "queue=test&value=2", &format!("cb(\"{key}\");\r\n"));
    let taken = rest.get(
        "/q/test?callback=a.$b_1",
        &format!("a.$b_1({{\"value\": \"1\", \"key\": \"{key}\", \"count\": 0}});\r\n"),
    );
    assert!(taken.header.contains("content-type: text/javascript; charset=utf-8\r\n"), "{taken:?}");
    assert!(taken.header.contains("x-content-type-options: nosniff\r\n"), "{taken:?}");
    rest.get(
        "/?queue=test&callback=cb",
        &format!("cb({{\"value\": \"2\", \"key\": \"{key}\", \"count\": 0}});\r\n"),
    );
    rest.get("/p/test?callback=cb", "cb({\"queue\": \"test\", \"value\": \"unknown\"});\r\n");
    rest.post("/p/test?callback=cb", "policy=broadcast", "cb(\"OK\");\r\n");
    rest.post("/p/test?callback=cb", "policy=x", "cb(null);\r\n");
    rest.get(
        "/stats/test?callback=cb",
        "cb({\"redis\": \"dsmq store: memory\", \"queue\": \"test\", \"len\": 0})",
    );
    rest.get("/stats/?callback=cb", "cb({\"queues\": {\"test\": {\"name\": \"test\", \"len\": 0, \"status\": 1, \"policy\": 1}}, \"redis\": \"dsmq store: memory\", \"count\": 1})");
    rest.get("/control/test?callback=cb", "cb({\"redis\": \"dsmq store: memory\", \"queue\": \"test\", \"status\": {\"queue\": \"test\", \"status\": 1}})\r\n");
    rest.post("/control/test?callback=cb", "status=x", "cb({\"stat\": \"invalid status: x\"})\r\n");
    rest.post(
        "/queue?callback=cb",
        "body={\"cmd\":\"take\",\"queue\":\"test\"}",
        "cb({\"error\": \"empty queue\"});",
    );
    rest.expect(
        &delete("/q/test?callback=cb"),
        200,
        "cb({\"queue\": \"test\", \"status\": 0});\r\n",
    );
}

#[test]
fn unsafe_callback_is_refused_and_takes_nothing() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    rest.add("test", "1");
    let long = "x".repeat(129);
    for name in [
        "",
        "1a",
        "a.",
        ".a",
        "a..b",
        "alert(1)",
        "a;b",
        "a%20b",
        "%3Cscript%3E",
        "a%27",
        "a%22",
        "a%0Ab",
        "a%5B0%5D",
        "a%2B1",
        "a%3Db",
        "%C3%A9",
        "%E2%80%A8",
        "a%60",
        "/**/a",
        "a-b",
        &long,
    ] {
        rest.refused(&get(&format!("/q/test?callback={name}")), 400, "bad_field");
        rest.refused(&get(&format!("/c/test?callback={name}")), 400, "bad_field");
    }
    assert!(rest.ask(get("/q/test?callback=ok")).body.starts_with("ok({\"value\": \"1\""));
}

#[test]
fn pages_escape_names_and_messages() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let (path, shown) = ("%3Cb%3E%22%27%26", "&lt;b&gt;&quot;&#39;&amp;");
    for number in 0..12 {
        rest.add(path, &format!("%3Cscript%3E{number}"));
    }
    rest.add("long", &"é".repeat(5_000));
    let jobs = rest.ask(get(&format!("/j/{path}")));
    assert!(jobs.header.contains("text/html; charset=utf-8\r\n"), "{jobs:?}");
    assert!(jobs.header.contains("content-security-policy: default-src 'none'; "), "{jobs:?}");
    assert!(
        jobs.body
            .contains(&format!("queue name: {shown}<br>\nqueue objects: 12<br>\njob count: 12<")),
        "{jobs:?}"
    );
    assert_eq!(jobs.body.matches("<li>").count(), 10);
    let newest = jobs.body.find("&lt;script&gt;11&quot;").unwrap();
    assert!(newest < jobs.body.find("&lt;script&gt;2&quot;").unwrap());
    assert!(!jobs.body.contains("&lt;script&gt;1&quot;") && !jobs.body.contains("<script"));
    let queues = rest.ask(get("/q/")).body;
    assert!(queues.contains(&format!("<a href=\"/q/{path}\">/q/{shown}</a>")), "{queues}");
    assert!(queues.contains("<a href=\"/q/long\">/q/long</a>"), "{queues}");
    assert!(rest.ask(get("/j/long")).body.len() < 2_000);
    assert_eq!(rest.ask(get("/j/none")).status, 200);
    for path in ["/queue", "/queue/x"] {
        let form = rest.ask(get(path)).body;
        assert!(
            form.contains("<form method=\"post\">") && form.contains("name=\"body\""),
            "{form}"
        );
    }
}

#[test]
fn foreign_page_takes_nothing() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    rest.add("test", "1");
    for path in ["/q/test", "/?queue=test", "/c/test", "/ws/test"] {
        for mode in ["navigate", "no-cors"] {
            let asks = get(path).replacen(
                "Host",
                &format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: {mode}\r\nHost"),
                1,
            );
            rest.refused(&asks, 403, "forbidden");
        }
    }
    assert!(rest.ask(get("/q/test")).body.contains("\"1\""));
}

/// The error code of a refused GET; `None` if it is allowed.
fn refusal(addr: SocketAddr, path: &str, site: &str, mode: &str) -> Option<String> {
    let headers =
        format!("Connection: close\r\nSec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\nHost");
    let mut peer = Peer::connect_silent(addr);
    peer.send(get(path).replacen("Host", &headers, 1));
    // An endless answer is not a refusal, so only the beginning is read.
    let begin = peer.receive("HTTP/1.1 403 ".len());
    (begin == b"HTTP/1.1 403 ").then(|| {
        let rest = peer.receive_all();
        let (_, body) = rest.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    })
}

#[test]
fn foreign_page_cannot_request_routes_that_remove() {
    let forbidden = Some("forbidden".to_owned());
    let removing = ["/q/x", "/c/x", "/ws/x", "/ws", "/?queue=x", "/?a=b&queue=x", "/?%71ueue=x"];
    let server = server();
    let addr = server.addr();
    for site in ["cross-site", "same-site", "unheard-of"] {
        for path in removing {
            for mode in ["navigate", "no-cors", "websocket"] {
                assert_eq!(refusal(addr, path, site, mode), forbidden, "{site} {mode} {path}");
            }
        }
        assert_eq!(refusal(addr, "/stats/?callback=f", site, "no-cors"), forbidden);
        assert_eq!(refusal(addr, "/", site, "navigate"), None);
    }
    for site in ["none", "same-origin"] {
        for path in removing {
            assert_eq!(refusal(addr, path, site, "navigate"), None, "{site} {path}");
        }
    }
    let open = server_with(Config { allow_origin: vec!["*".to_owned()], ..Config::default() });
    assert_eq!(refusal(open.addr(), "/q/x", "cross-site", "no-cors"), None);
}
