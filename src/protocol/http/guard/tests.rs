//! Tests of the guard, header by header.

use super::*;

fn guard(allow_host: &[&str], allow_origin: &[&str]) -> Guard {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Guard::new(&Config {
        allow_host: owned(allow_host),
        allow_origin: owned(allow_origin),
        ..Config::default()
    })
}

fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap()
}

/// The error code of a refusal.
fn refusal(guard: &Guard, request: &Request<()>) -> Option<Code> {
    guard.check(request).err().map(|error| error.code)
}

fn host(guard: &Guard, host: &str) -> Option<Code> {
    refusal(guard, &request("GET", "/t/x", &[("host", host.as_bytes())]))
}

#[test]
fn hostile_hosts_are_refused() {
    let guard = guard(&["queue.example.com"], &["*"]);
    for hostile in [
        "evil.com",
        "evil.com:30008",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "evil-localhost",
        "localhost@evil.com",
        "evil.com#localhost",
        "localhost/",
        "localhost:80:80",
        "localhost:99999",
        "localhost:x",
        "localhost:+80",
        "localhost, evil.com",
        "l\u{43e}calhost",
        "0x7f.0.0.1",
        "2130706433",
        "127.1",
        "::1",
        "[::1",
        "[::1]evil.com",
        "[::1]:x",
        "[localhost]",
        "[127.0.0.1]",
        "*",
        "",
        ":30008",
        "x.queue.example.com",
        "example.com",
    ] {
        assert_eq!(host(&guard, hostile), Some(Code::WrongHost), "{hostile}");
    }
}

#[test]
fn refused_host_names_the_flag_that_allows_it() {
    let request = |host: &str| request("GET", "/", &[("host", host.as_bytes())]);
    let text = |host: &str| guard(&[], &[]).check(&request(host)).unwrap_err().text;
    let expected = "host 'queue.lan' is not allowed: start dsmq with --allow-host queue.lan";
    assert_eq!(text("queue.lan:30008"), expected);
    assert!(text(&"x".repeat(10_000)).len() < 2 * HOST_SHOWN_CHARS + 100);
}

#[test]
fn own_hosts_are_allowed() {
    let guard = guard(&["queue.example.com"], &[]);
    let own = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let hosts = ["localhost", "LocalHost:1", "127.0.0.1:30008", "192.168.1.7", "[::1]:30008"];
    for own in hosts.into_iter().chain(["[::1]", "Queue.Example.com:443", &own]) {
        assert_eq!(host(&guard, own), None, "{own}");
    }
}

#[test]
fn exactly_one_host_is_required() {
    let guard = guard(&[], &[]);
    let two: [(&str, &[u8]); 2] = [("host", b"localhost"), ("host", b"localhost")];
    assert_eq!(refusal(&guard, &request("GET", "/", &two)), Some(Code::BadField));
    let mut none = request("GET", "/", &[]);
    assert_eq!(refusal(&guard, &none), Some(Code::MissingField));
    *none.version_mut() = Version::HTTP_10;
    assert_eq!(refusal(&guard, &none), None);
    let absolute = request("GET", "http://evil.com/", &[("host", b"localhost")]);
    assert_eq!(refusal(&guard, &absolute), Some(Code::WrongHost));
    let absolute = request("GET", "http://localhost/", &[("host", b"evil.com")]);
    assert_eq!(refusal(&guard, &absolute), Some(Code::WrongHost));
}

fn origin(guard: &Guard, method: &str, origin: &str) -> Result<Admission> {
    let headers = [("host", &b"localhost:1"[..]), ("origin", origin.as_bytes())];
    guard.check(&request(method, "/t/x", &headers))
}

#[test]
fn foreign_origin_is_refused_for_every_method() {
    let closed = guard(&[], &["https://good.example"]);
    for foreign in [
        "null",
        "",
        "http://evil.com",
        "http://localhost",
        "http://localhost:2",
        "http://localhost:1.evil.com",
        "http://evil.com/localhost:1",
        "file://localhost:1",
        "localhost:1",
        "https://good.example.evil.com",
        "http://good.example",
        "https://good.example:444",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "HEAD"] {
            let refused = origin(&closed, method, foreign).unwrap_err();
            assert_eq!(refused.code, Code::Forbidden, "{method} {foreign}");
        }
    }
    let two: [(&str, &[u8]); 3] =
        [("host", b"a"), ("origin", b"http://localhost"), ("origin", b"http://localhost")];
    let two = request("GET", "/", &[("host", b"localhost"), two[1], two[2]]);
    assert_eq!(refusal(&closed, &two), Some(Code::Forbidden));
}

#[test]
fn own_and_allowed_origins_pass() {
    let closed = guard(&[], &["https://good.example"]);
    for own in ["http://localhost:1", "https://localhost:1", "http://LOCALHOST:1"] {
        assert_eq!(origin(&closed, "POST", own), Ok(Admission::default()), "{own}");
    }
    let good = "https://good.example";
    let pass = Admission { origin: Some(HeaderValue::from_static(good)), ..Admission::default() };
    assert_eq!(origin(&closed, "POST", good), Ok(pass));
    let open = guard(&[], &["*"]);
    for any in ["null", "http://evil.com"] {
        let pass = origin(&open, "POST", any).unwrap();
        assert_eq!(pass.origin, Some(HeaderValue::from_static(any)));
    }
}

#[test]
fn allowed_origin_may_send_a_preflight() {
    let open = guard(&[], &["*"]);
    let headers: [(&str, &[u8]); 4] = [
        ("host", b"localhost"),
        ("origin", b"http://a.example"),
        ("access-control-request-method", b"POST"),
        ("access-control-request-headers", b"content-type"),
    ];
    let pass = open.check(&request("OPTIONS", "/t/x", &headers)).unwrap();
    let asked = Some(HeaderValue::from_static("content-type"));
    assert_eq!(pass.preflight, Some(Preflight { headers: asked }));
    let closed = guard(&[], &[]);
    assert_eq!(refusal(&closed, &request("OPTIONS", "/t/x", &headers)), Some(Code::Forbidden));
}

#[test]
fn foreign_page_may_navigate_but_not_fetch() {
    let fetch = |guard: &Guard, site: &str, mode: &str| {
        let headers = [
            ("host", &b"localhost"[..]),
            ("sec-fetch-site", site.as_bytes()),
            ("sec-fetch-mode", mode.as_bytes()),
        ];
        let pass = guard.check(&request("GET", "/q/x", &headers));
        pass.map(|pass| pass.is_cross_site).map_err(|error| error.code)
    };
    let closed = guard(&[], &[]);
    for site in ["cross-site", "same-site", "unheard-of"] {
        assert_eq!(fetch(&closed, site, "navigate"), Ok(true), "{site}");
        for mode in ["no-cors", "websocket"] {
            assert_eq!(fetch(&closed, site, mode), Err(Code::Forbidden), "{site} {mode}");
        }
    }
    for site in ["none", "same-origin"] {
        assert_eq!(fetch(&closed, site, "navigate"), Ok(false), "{site}");
    }
    assert_eq!(fetch(&guard(&[], &["*"]), "cross-site", "no-cors"), Ok(false));
}
