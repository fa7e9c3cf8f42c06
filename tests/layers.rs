//! Checks the invariants of the layout on the source text: the direction of imports, and names that
//! are forbidden in a layer. A failure prints each offending line with its file and number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules that every layer may use.
const SHARED: [&str; 4] = ["ops", "error", "limits", "sync"];

/// Each layer with the layers that it may import beside itself and the shared modules.
const LAYERS: [(&str, &[&str]); 15] = [
    ("main", &["cli"]),
    ("cli", &["server", "compat", "protocol", "broker", "store", "config", "client", "text"]),
    ("server", &["compat", "protocol", "broker", "store", "config"]),
    ("compat", &["protocol", "broker", "wire", "config"]),
    ("protocol", &["broker", "wire", "config", "text"]),
    ("broker", &["store"]),
    ("store", &[]),
    ("wire", &["error", "limits"]),
    ("config", &["ops", "error", "limits"]),
    ("client", &["text"]),
    ("text", &[]),
    ("ops", &[]),
    ("error", &["text"]),
    ("limits", &[]),
    ("sync", &[]),
];

/// Layers that may not use the shared modules unless their row lists them.
const ALONE: [&str; 4] = ["wire", "config", "client", "text"];

/// Names that the crate root re-exports, and the layers that define them.
const PASSED_ON: [(&str, &str); 8] = [
    ("Client", "client"),
    ("Config", "config"),
    ("CoreMqPort", "config"),
    ("O3onePorts", "config"),
    ("StoreLocation", "config"),
    ("Server", "server"),
    ("StartError", "server"),
    ("run", "server"),
];

/// Files with an unbounded channel, and the reason why it holds little.
const UNBOUNDED: [(&str, &str); 3] = [
    ("src/cli/bench.rs", "carries nothing: its end says that the work is done"),
    ("src/store/redis.rs", "one answer for each shard"),
    ("src/store/redis/nodes.rs", "one answer for each node"),
];

/// Public methods of the broker without a caller: the server calls them, on its own behalf.
const WITHOUT_CALLER: [&str; 9] = [
    "new",
    "blocks",
    "close",
    "allow_shutdown",
    "probe",
    "protocol_counts",
    "held",
    "timers",
    "run_timer",
];

/// A source file without comments and without items that are compiled only for tests or fuzzing.
struct Source {
    /// As `src/broker/cursor.rs`.
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let mut lines = Vec::new();
        // The indentation of an item that is left out.
        let mut left_out: Option<usize> = None;
        let mut is_marked = false;
        for line in text.lines() {
            let code = line.split(" // ").next().unwrap_or_default();
            let indent = code.len() - code.trim_start().len();
            let code = if code.trim_start().starts_with("//") { "" } else { code.trim() };
            let mut kept = String::new();
            if let Some(outer) = left_out {
                if indent == outer && matches!(code, "}" | "};" | ");" | "]);" | "})") {
                    left_out = None;
                }
            } else if is_test_attribute(code) {
                is_marked = true;
            } else if is_marked && !code.starts_with("#[") && !code.is_empty() {
                is_marked = false;
                let is_block = code.ends_with('}') && code.contains('{');
                if !(is_block || code.ends_with([';', ','])) {
                    left_out = Some(indent);
                }
            } else if !is_marked {
                kept = code.to_owned();
            }
            lines.push(kept);
        }
        assert!(left_out.is_none(), "{path}: an item for tests has no end");
        Source { path: path.to_owned(), lines }
    }

    /// The module's path, as `["broker", "cursor"]`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').collect()
    }

    fn layer(&self) -> &str {
        self.modules()[0]
    }

    /// The lines for which `offend` is true, each as `src/broker.rs:12: use ...`.
    fn lines_that(&self, offend: impl Fn(&str) -> bool) -> Vec<String> {
        let numbered = self.lines.iter().enumerate();
        let offending = numbered.filter(|(_, line)| offend(line));
        offending.map(|(index, line)| format!("{}:{}: {line}", self.path, index + 1)).collect()
    }

    /// The top-level modules that this file names, each with the index of its line.
    fn named(&self) -> Vec<(usize, String)> {
        let text = self.lines.join("\n");
        let depth = self.modules().len();
        let mut named = Vec::new();
        for root in ["crate::".to_owned(), "super::".repeat(depth)] {
            for (at, _) in text.match_indices(&root) {
                let before = text[..at].chars().next_back().unwrap_or(' ');
                if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
                    continue;
                }
                let line = text[..at].matches('\n').count();
                let rest = &text[at + root.len()..];
                named.extend(first_names(rest).into_iter().map(|name| (line, name)));
            }
        }
        named
    }
}

/// Whether this attribute restricts an item to tests or fuzzing.
fn is_test_attribute(code: &str) -> bool {
    let cfg = code.starts_with("#[cfg(") && !code.contains("not(test)");
    let cfg = cfg && (code.contains("test") || code.contains("fuzzing"));
    // `any(test, feature = "x")` also compiles the item for users of the feature.
    (cfg && !code.contains("any(") || code == "#[cfg(any(test, fuzzing))]") || code == "#[test]"
}

/// The first name of a path, or those of a group: `{a, b::{c}}` gives `a` and `b`.
fn first_names(path: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// Every source file except those compiled only for tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut texts, mut folders) = (BTreeMap::new(), vec![root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                texts.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    let tests = test_modules(&texts);
    let is_for_tests = |path: &str| {
        tests
            .iter()
            .any(|module| path.strip_prefix(module).is_some_and(|r| r.starts_with(['.', '/'])))
    };
    let sources = texts.iter().filter(|(path, _)| !is_for_tests(path));
    let sources: Vec<_> = sources.map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 100, "few sources are found");
    sources
}

/// The paths, without `.rs`, of modules in their own files that are compiled only for tests.
fn test_modules(texts: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (path, text) in texts {
        let folder = path.trim_end_matches(".rs").trim_end_matches("/lib");
        let mut is_marked = false;
        for line in text.lines().map(str::trim) {
            let module = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
            if let (true, Some(module)) = (is_marked, module.and_then(|m| m.strip_suffix(';'))) {
                modules.insert(format!("{folder}/{module}"));
            }
            is_marked = is_test_attribute(line) || is_marked && line.starts_with("#[");
        }
    }
    modules
}

/// A rule: the lines of a source that break it.
type Rule = fn(&Source) -> Vec<String>;

fn imports_run_one_way(source: &Source) -> Vec<String> {
    let layer = source.layer();
    if matches!(layer, "lib" | "fuzz") {
        return Vec::new();
    }
    let row = LAYERS.iter().find(|(name, _)| *name == layer);
    let Some((_, may)) = row else {
        return vec![format!("{}: unknown layer", source.path)];
    };
    let is_shared = |name: &str| SHARED.contains(&name) && !ALONE.contains(&layer);
    let named = source.named().into_iter().filter_map(|(line, name)| {
        let owner = PASSED_ON.iter().find(|(passed_on, _)| *passed_on == name);
        let name = owner.map_or(name.as_str(), |(_, owner)| owner);
        let is_allowed = name == layer || may.contains(&name) || is_shared(name);
        let text = &source.lines[line];
        (!is_allowed).then(|| format!("{}:{}: {text}", source.path, line + 1))
    });
    named.collect()
}

/// Whether a line contains this word, not inside a longer word and not after `::`.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        let after = line[at + word.len()..].chars().next().unwrap_or(' ');
        !is_part(before) && before != ':' && !is_part(after)
    })
}

fn databases_are_named_in_the_store_alone(source: &Source) -> Vec<String> {
    if source.layer() == "store" {
        return Vec::new();
    }
    let names_redis = |line: &str| {
        let is_path = line.contains("redis::") || line.ends_with("use redis;");
        is_path && has_word(line, "redis") && !line.contains("mod redis")
    };
    source.lines_that(|line| has_word(line, "rusqlite") || names_redis(line))
}

fn broker_and_store_know_no_sockets(source: &Source) -> Vec<String> {
    if !["broker", "store"].contains(&source.layer()) {
        return Vec::new();
    }
    const SOCKETS: [&str; 8] = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "ToSocketAddrs",
        "socket2",
        "tokio",
    ];
    source.lines_that(|line| SOCKETS.iter().any(|socket| line.contains(socket)))
}

fn nothing_panics(source: &Source) -> Vec<String> {
    const PANICS: [&str; 6] =
        [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];
    source.lines_that(|line| PANICS.iter().any(|panic| line.contains(panic)))
}

fn channels_are_bounded(source: &Source) -> Vec<String> {
    if UNBOUNDED.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    source.lines_that(is_unbounded)
}

fn is_unbounded(line: &str) -> bool {
    let channel = line.contains("channel()") || line.contains("channel::<") && line.contains("()");
    channel && !line.contains("fn channel") || line.contains("unbounded")
}

fn broker_methods_take_a_caller(source: &Source) -> Vec<String> {
    let methods = broker_methods(source).into_iter().filter(|(_, name, signature)| {
        !signature.contains("&Caller") && !WITHOUT_CALLER.contains(&name.as_str())
    });
    let lines =
        methods.map(|(line, ..)| format!("{}:{}: {}", source.path, line + 1, source.lines[line]));
    lines.collect()
}

/// The public methods in `impl Broker`, each with the index of its line and its whole signature.
fn broker_methods(source: &Source) -> Vec<(usize, String, String)> {
    let (mut methods, mut depth) = (Vec::new(), None);
    if source.layer() != "broker" {
        return methods;
    }
    for (index, line) in source.lines.iter().enumerate() {
        if line == "impl Broker {" {
            depth = Some(0);
        }
        let Some(open) = &mut depth else { continue };
        if let (1, Some(function)) = (*open, line.strip_prefix("pub fn ")) {
            let name = first_names(function).concat();
            let rest = source.lines[index..].iter();
            let begin = rest.clone().take_while(|line| !line.ends_with(['{', '}'])).count();
            let signature: Vec<_> = rest.take(begin + 1).map(String::as_str).collect();
            methods.push((index, name, signature.join(" ")));
        }
        *open += line.matches('{').count() as isize - line.matches('}').count() as isize;
        if *open == 0 {
            depth = None;
        }
    }
    methods
}

#[track_caller]
fn check(rule: Rule) {
    let broken: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(broken.is_empty(), "{} lines break this rule:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn layers_import_only_lower_layers() {
    check(imports_run_one_way);
}

#[test]
fn only_the_store_names_rusqlite_and_redis() {
    check(databases_are_named_in_the_store_alone);
}

#[test]
fn broker_and_store_name_no_socket_and_no_tokio() {
    check(broker_and_store_know_no_sockets);
}

#[test]
fn nothing_unwraps_or_panics_outside_tests() {
    check(nothing_panics);
}

#[test]
fn every_channel_has_a_bound_or_a_reason() {
    check(channels_are_bounded);
    for (path, why) in UNBOUNDED {
        let source = sources().into_iter().find(|source| source.path == path);
        let is_used = source.is_some_and(|source| !source.lines_that(is_unbounded).is_empty());
        assert!(is_used && !why.is_empty(), "{path} needs no exception");
    }
}

#[test]
fn every_broker_method_takes_a_caller() {
    check(broker_methods_take_a_caller);
    let sources = sources();
    let methods: Vec<_> = sources.iter().flat_map(broker_methods).collect();
    assert!(methods.len() > 20, "few methods are found");
    for name in WITHOUT_CALLER {
        let is_used = methods
            .iter()
            .any(|(_, method, signature)| method == name && !signature.contains("&Caller"));
        assert!(is_used, "{name} needs no exception");
    }
}

#[test]
fn each_rule_reports_a_violation() {
    let rules: [(Rule, &str, &str); 19] = [
        (imports_run_one_way, "src/protocol/x.rs", "use crate::compat::o3one;"),
        (
            imports_run_one_way,
            "src/protocol/x.rs",
            "use crate::{limits, store::{Store, TopicState}};",
        ),
        (imports_run_one_way, "src/compat/x/y.rs", "let x = super::super::super::server::open();"),
        (imports_run_one_way, "src/compat/x.rs", "fn f() -> crate::store::TopicState {"),
        (imports_run_one_way, "src/broker/x.rs", "use crate::protocol::json;"),
        (imports_run_one_way, "src/store/x.rs", "use crate::{\n    broker,\n    limits,\n};"),
        (imports_run_one_way, "src/wire/x.rs", "use crate::ops::Id;"),
        (imports_run_one_way, "src/config/x.rs", "use crate::compat::coremq;"),
        (imports_run_one_way, "src/client/x.rs", "use crate::Config;"),
        (databases_are_named_in_the_store_alone, "src/broker/x.rs", "use rusqlite::Connection;"),
        (databases_are_named_in_the_store_alone, "src/server/x.rs", "redis::Client::open(url)"),
        (broker_and_store_know_no_sockets, "src/store/x.rs", "use std::net::{IpAddr, TcpStream};"),
        (broker_and_store_know_no_sockets, "src/broker/x.rs", "use tokio::sync::Notify;"),
        (nothing_panics, "src/cli/x.rs", "#[cfg(test)]\nmod tests {\n}\nlet x = y.unwrap();"),
        (channels_are_bounded, "src/server/x.rs", "let (a, b) = mpsc::channel();"),
        (channels_are_bounded, "src/server/x.rs", "let (a, b) = mpsc::unbounded_channel();"),
        (
            broker_methods_take_a_caller,
            "src/broker/x.rs",
            "impl Broker {\n    pub fn f(&self) {\n        let _: &Caller;\n    }\n}",
        ),
        (
            broker_methods_take_a_caller,
            "src/broker.rs",
            "impl Broker {\n    pub fn f(\n        &self,\n        n: u8,\n    ) -> u8 {\n    }\n}",
        ),
        (
            broker_methods_take_a_caller,
            "src/broker/x.rs",
            "impl Broker {\n    pub fn f(&self, _: &Caller) {\n    }\n    pub fn g(&self) -> u8 { 1 }\n}",
        ),
    ];
    for (rule, path, text) in rules {
        assert_eq!(rule(&Source::new(path, text)).len(), 1, "{path}: {text}");
    }
    let in_tests = "#[cfg(test)]\nmod tests {\n    use crate::store::Rules;\n    x.unwrap();\n}\n";
    let in_comment = "/// See [`crate::store`].\n// x.unwrap()\nlet x = 1; // y.unwrap()\n";
    let allowed = "impl Broker {\n    pub fn blocks(&self) {\n    }\n    pub fn f(\n        &self,\n        _: &Caller,\n    ) {\n    }\n    fn g(&self) {\n    }\n}\nimpl X {\n    pub fn h(&self) {\n    }\n}";
    assert!(broker_methods_take_a_caller(&Source::new("src/broker/x.rs", allowed)).is_empty());
    for text in [in_tests, in_comment, "let (a, b) = mpsc::channel(1);"] {
        let source = Source::new("src/compat/x.rs", text);
        let rules = [imports_run_one_way, nothing_panics, channels_are_bounded];
        assert!(rules.iter().all(|rule| rule(&source).is_empty()), "{text}");
    }
}
