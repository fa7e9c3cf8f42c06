//! XML-RPC as raw bytes and from Python's client.

use super::Rest;
use crate::suite::support::process::run;
use crate::suite::support::server;
use crate::suite::web::http::post;

fn call(method: &str, params: &[&str]) -> String {
    let params: String = params
        .iter()
        .map(|param| format!("<param><value><string>{param}</string></value></param>"))
        .collect();
    let call = format!(
        "<?xml version='1.0'?>\n<methodCall><methodName>{method}</methodName>\n<params>{params}</params></methodCall>\n"
    );
    post("/xmlrpc", &call)
}

fn answer(value: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n</param>\n</params>\n</methodResponse>\n"
    )
}

#[test]
fn values_are_set_and_got() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    let key = "q&amp;:1795216135066522";
    let set = rest.expect(
        &call("set", &["q&amp;", "a &lt;b&gt;&#13;"]),
        200,
        &answer(&format!("<string>{key}</string>")),
    );
    assert!(set.header.contains("content-type: text/xml; charset=utf-8\r\n"), "{set:?}");
    let got = format!(
        "<struct>\n<member>\n<name>key</name>\n<value><string>{key}</string></value>\n</member>\n\
         <member>\n<name>value</name>\n<value><string>a &lt;b&gt;&#13;</string></value>\n</member>\n\
         <member>\n<name>count</name>\n<value><int>0</int></value>\n</member>\n</struct>"
    );
    rest.expect(&call("get", &["q&amp;"]), 200, &answer(&got));
    let fault = "<?xml version=\"1.0\"?>\n<methodResponse>\n<fault>\n<value><struct>\n\
         <member>\n<name>faultCode</name>\n<value><int>404</int></value>\n</member>\n\
         <member>\n<name>faultString</name>\n<value><string>empty queue</string></value>\n</member>\n\
         </struct></value>\n</fault>\n</methodResponse>\n";
    rest.expect(&call("get", &["q&amp;"]), 200, fault);
    for wrong in [
        call("fly", &["q"]),
        call("set", &["q"]),
        call("get", &[]),
        call("get", &["q", "x"]),
        call("get", &[""]),
        post("/xmlrpc", "<x/>"),
        post("/xmlrpc", ""),
        post("/xmlrpc", &"<methodCall>".repeat(100_000)),
    ] {
        let refused = rest.ask(&wrong);
        assert_eq!(refused.status, 200, "{refused:?}");
        assert!(refused.body.contains("<value><int>400</int></value>"), "{refused:?}");
    }
}

const PYTHON: &str = r#"
import sys, xmlrpc.client
server = xmlrpc.client.ServerProxy(sys.argv[1])
text = "a<&>]]> \u00e9 \U0001f600\n"
key = server.set("python", text)
assert key.startswith("python:"), key
assert server.get("python") == {"key": key, "value": text, "count": 0}
for call, code in (
    (lambda: server.get("python"), 404),
    (lambda: server.set("python", 5), 400),
    (lambda: server.set("python", [["x"]]), 400),
    (lambda: server.system.listMethods(), 400),
):
    try:
        raise SystemExit(f"no fault, but {call()!r}")
    except xmlrpc.client.Fault as fault:
        assert fault.faultCode == code, fault
large = "&" * 1_000_000
server.set("python", large)
assert server.get("python")["value"] == large
"#;

#[test]
fn python_client_sets_and_gets() {
    let server = server();
    let mut python = std::process::Command::new("python3");
    let url = format!("http://{}/xmlrpc", server.addr());
    let ended = run(python.args(["-c", PYTHON, &url]), "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn characters_without_xml_form_are_replaced() {
    let server = server();
    let mut rest = Rest::connect(server.addr());
    assert_eq!(rest.ask(post("/q/q", "value=a%01b")).status, 200);
    let got = rest.ask(call("get", &["q"]));
    assert!(got.body.contains("<value><string>a\u{fffd}b</string></value>"), "{got:?}");
}
