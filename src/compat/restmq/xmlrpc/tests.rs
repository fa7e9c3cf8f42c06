//! Parsing XML-RPC calls: valid forms, invalid calls, and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Call, parse, xml};
use crate::error::Code;

fn call(method: &str, params: &[&str]) -> Call {
    let params = params.iter().map(|param| (*param).to_owned()).collect();
    Call { method: method.to_owned(), params }
}

#[test]
fn calls_are_read_in_all_forms() {
    for (text, expected) in [
        ("<methodCall><methodName>get</methodName></methodCall>", call("get", &[])),
        (
            "\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n<!-- x --><methodCall>\n <methodName> get </methodName>\n <params>\n\
             <param>\n<value>\n<string> q </string>\n</value>\n</param>\n</params>\n</methodCall>\n",
            call("get", &[" q "]),
        ),
        (
            "<methodCall><methodName>set</methodName><params><param><value>bare &amp; text</value>\
             </param><param><value><string><![CDATA[<&]]>&#xe9;&quot;&apos;&#13;</string></value>\
             </param></params></methodCall>",
            call("set", &["bare & text", "<&é\"'\r"]),
        ),
        (
            "<methodCall><methodName>set</methodName><params><param><value/></param>\
             <param><value><string/></value></param></params></methodCall>",
            call("set", &["", ""]),
        ),
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
    }
}

#[test]
fn invalid_calls_are_refused() {
    let value = |inside: &str| {
        format!(
            "<methodCall><methodName>set</methodName><params><param><value>{inside}</value></param>\
             </params></methodCall>"
        )
    };
    let whole = value("x");
    for text in [
        "",
        "x",
        "<methodCall>",
        "<methodCall></methodCal>",
        "<a/>",
        "<methodCall/><methodCall/>",
        "<methodCall><params><methodName/></params></methodCall>",
        &value("<int>5</int>"),
        &value("<array><data/></array>"),
        &value("<string><string>x</string></string>"),
        &value("&other;"),
        &value("&#xD800;"),
        &value("&#0;"),
        &value("&#999999999999;"),
        &value("<"),
        &format!("<!DOCTYPE x [<!ENTITY other \"x\">]>{whole}"),
        &whole[..whole.len() - 1],
        &whole.replace(
            "<param><value>x</value></param>",
            &"<param><value>x</value></param>".repeat(9),
        ),
        &"<methodCall>".repeat(100_000),
        &value(&"<struct>".repeat(100_000)),
    ] {
        let refused = parse(text.as_bytes()).map_err(|error| error.code);
        assert_eq!(refused, Err(Code::BadField), "{:.200}", text);
    }
    assert!(parse(b"\xff").is_err());
}

proptest! {
    #[test]
    fn texts_come_back_unchanged(texts in vec("[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{0,20}", 0..4)) {
        let params: String = texts
            .iter()
            .map(|text| format!("<param><value><string>{}</string></value></param>", xml(text)))
            .collect();
        let text = format!("<methodCall><methodName>m</methodName><params>{params}</params></methodCall>");
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        prop_assert_eq!(parse(text.as_bytes()), Ok(call("m", &texts)));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in any::<Vec<u8>>()) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_pieces_of_calls_are_parsed_or_refused(pieces in vec(prop::sample::select(vec![
        "<methodCall>", "</methodCall>", "<methodName>", "</methodName>", "<params>", "</params>",
        "<param>", "</param>", "<value>", "</value>", "<string>", "</string>", "<value/>", "x", "&lt;",
        "&#", "<![CDATA[", "]]>", "<!--", "-->", "<?", "?>", "<!DOCTYPE", ">", "\u{e9}",
    ]), 0..30)) {
        let _ = parse(pieces.concat().as_bytes());
    }
}
