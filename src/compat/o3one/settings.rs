//! `O3one.yaml`, the configuration file of O3one MQ, translated into this server's flags. A key
//! without effect is reported with the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::config::O3onePorts;
use crate::config::file::{Setting, read_text};

/// Keys without effect, and the reason.
const IGNORED: [(&str, &str); 4] = [
    ("default_connect_timeout", "this server opens no connections"),
    ("log_path", "the log goes to standard error"),
    ("mmap_file", "the store is one SQLite file, dsmq.db in db_path"),
    ("mmap_path", "the store is one SQLite file, dsmq.db in db_path"),
];

/// A file after reading.
#[derive(Debug)]
pub struct O3oneFile {
    /// The path as the user gave it.
    pub path: PathBuf,
    pub settings: Vec<Setting>,
    /// Lines for the log at start.
    pub notes: Vec<String>,
    /// The store's file, if the settings ask for one. Its folder may not exist yet.
    pub store: Option<PathBuf>,
}

/// Reads and translates the file. An error is one line.
pub fn read(path: &Path) -> Result<O3oneFile, String> {
    let shown = path.display();
    let text = read_text(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let keys = parse(&text).map_err(|error| format!("{shown}{error}"))?;
    let file = YamlKeys(keys).translate(path).map_err(|wrong| format!("{shown}: {wrong}"))?;
    let notes = file.notes.into_iter().map(|note| format!("{shown}: {note}")).collect();
    Ok(O3oneFile { notes, ..file })
}

/// The keys and values; a key with a null value is left out.
struct YamlKeys(BTreeMap<String, String>);

/// Parses the file. An error is its place, with a leading comma if it is a line, and the fault.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut keys = BTreeMap::new();
    let (mut key, mut depth) = (None, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| format!(", line {}: {}", error.marker().line(), error.info()))?;
        let wrong = |text: &str| Err(format!(", line {}: {text}", span.start.line()));
        match event {
            Event::Scalar(text, style, ..) if depth == 1 => match key.take() {
                None => key = Some(text.into_owned()),
                Some(key) => {
                    let is_null =
                        style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                    if !is_null && keys.insert(key, text.into_owned()).is_some() {
                        return wrong("this key occurs twice");
                    }
                }
            },
            Event::MappingStart(..) if depth == 0 => depth = 1,
            Event::MappingEnd => depth = 0,
            Event::Scalar(text, ..) if text.is_empty() => {}
            Event::Scalar(..) | Event::MappingStart(..) | Event::SequenceStart(..) => {
                return wrong("expected a key and its value on each line, such as port_pub: 5555");
            }
            Event::Alias(_) => return wrong("aliases are not supported: repeat the value"),
            _ => {}
        }
    }
    Ok(keys)
}

impl YamlKeys {
    fn translate(mut self, path: &Path) -> Result<O3oneFile, String> {
        let mut settings = Vec::new();
        let mut set = |flag: &str, value: String| {
            let id = flag.replace('-', "_");
            settings.push(Setting { id, flag: Some(format!("--{flag}={value}")) });
        };
        set("o3one", self.ports()?);
        if let Some(host) = self.0.remove("hostname") {
            set("host", host);
        }
        if let Some(ack) = self.0.remove("ack_rep") {
            set("o3one-ack", ack);
        }
        set("o3one-priority", self.switch("priority_enabled", false)?.to_string());
        let folder = PathBuf::from(self.0.remove("db_path").unwrap_or_else(|| "./db/".to_owned()));
        // O3one's memory-mapped file keeps the latest messages after the process has ended; its SQL
        // store keeps all.
        let (lossless, mapped) =
            (self.switch("persist_enabled", false)?, self.switch("mmap_enabled", true)?);
        let store = (lossless || mapped).then(|| folder.join("dsmq.db"));
        if let Some(store) = &store {
            set("store", store.display().to_string());
            set("sync", if lossless { "full" } else { "normal" }.to_owned());
            set("when-full", if lossless { "refuse" } else { "drop-oldest" }.to_owned());
        }
        let mut notes = self.notes();
        let old = folder.join("o3mq.db");
        if old.exists() {
            notes.push(format!("{} is not read and stays unchanged", old.display()));
        }
        Ok(O3oneFile { path: path.to_owned(), settings, notes, store })
    }

    /// The value of `--o3one`.
    fn ports(&mut self) -> Result<String, String> {
        let defaults = O3onePorts::OWN;
        let [subscribe, publish, websocket] = [
            self.port("port_pub", defaults.subscribe)?,
            self.port("port_sub", defaults.publish)?,
            self.port("port_ws", defaults.websocket)?,
        ];
        let page = self.port("dashboard_port", defaults.page.unwrap_or_default())?;
        let page = if self.switch("dashboard_enabled", true)? {
            format!(",{page}")
        } else {
            String::new()
        };
        Ok(format!("{subscribe},{publish},{websocket}{page}"))
    }

    fn port(&mut self, key: &str, default: u16) -> Result<u16, String> {
        let Some(text) = self.0.remove(key) else { return Ok(default) };
        text.parse()
            .map_err(|_| format!("wrong value for '{key}': expected a port from 0 to 65535"))
    }

    fn switch(&mut self, key: &str, default: bool) -> Result<bool, String> {
        let Some(text) = self.0.remove(key) else { return Ok(default) };
        match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "y" => Ok(true),
            "no" | "false" | "off" | "n" => Ok(false),
            _ => Err(format!("wrong value for '{key}': expected yes or no")),
        }
    }

    /// One line for each unused key that is left.
    fn notes(&self) -> Vec<String> {
        let why = |key: &str| IGNORED.iter().find(|(ignored, _)| *ignored == key);
        let notes = self.0.keys().map(|key| match why(key) {
            Some((_, why)) => format!("{key} is not used: {why}"),
            None => format!("{} is not used: O3one has no such key", key.escape_debug()),
        });
        notes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Vec<String> {
        let file = YamlKeys(parse(text).unwrap()).translate(Path::new("O3one.yaml")).unwrap();
        file.settings.into_iter().filter_map(|setting| setting.flag).collect()
    }

    fn notes(text: &str) -> Vec<String> {
        YamlKeys(parse(text).unwrap()).translate(Path::new("O3one.yaml")).unwrap().notes
    }

    fn wrong(text: &str) -> String {
        parse(text).and_then(|keys| YamlKeys(keys).translate(Path::new("O3one.yaml"))).unwrap_err()
    }

    #[test]
    fn missing_keys_have_o3ones_defaults() {
        let expected = [
            "--o3one=5555,5556,8765,9000",
            "--o3one-priority=false",
            "--store=./db/dsmq.db",
            "--sync=normal",
            "--when-full=drop-oldest",
        ];
        for text in ["", "# nothing\n", "---\n", "mmap_enabled:\nport_pub: ~\n"] {
            assert_eq!(flags(text), expected, "{text:?}");
        }
    }

    #[test]
    fn unused_keys_are_reported_with_the_reason() {
        let text = "\
ack_rep: \"thank you\"  # a comment
persist_enabled: yes
mmap_enabled: No
dashboard_port: 1
dashboard_enabled: TRUE
priority_enabled: on
db_path: /tmp/o3/
mmap_path: ./db/mapped/
mmap_file: o3.mq
log_path: ./logs/
default_connect_timeout: 5
hostname: 0.0.0.0
port_pub: 2
port_sub: 3
port_ws: '4'
colour: blue
";
        let expected = [
            "--o3one=2,3,4,1",
            "--host=0.0.0.0",
            "--o3one-ack=thank you",
            "--o3one-priority=true",
            "--store=/tmp/o3/dsmq.db",
            "--sync=full",
            "--when-full=refuse",
        ];
        assert_eq!(flags(text), expected);
        let expected = [
            "colour is not used: O3one has no such key",
            "default_connect_timeout is not used: this server opens no connections",
            "log_path is not used: the log goes to standard error",
            "mmap_file is not used: the store is one SQLite file, dsmq.db in db_path",
            "mmap_path is not used: the store is one SQLite file, dsmq.db in db_path",
        ];
        assert_eq!(notes(text), expected);
    }

    #[test]
    fn store_is_in_memory_if_the_file_disables_both() {
        let text = "mmap_enabled: no\ndashboard_enabled: no";
        assert_eq!(flags(text), ["--o3one=5555,5556,8765", "--o3one-priority=false"]);
    }

    #[test]
    fn faults_are_reported_with_their_line_or_key() {
        let shape = "expected a key and its value on each line, such as port_pub: 5555";
        for (text, expected) in [
            ("a: [1]", format!(", line 1: {shape}")),
            ("a: 1\nb:\n  c: 1", format!(", line 3: {shape}")),
            ("- a", format!(", line 1: {shape}")),
            ("just text", format!(", line 1: {shape}")),
            ("a: &x 1\nb: *x", ", line 2: aliases are not supported: repeat the value".to_owned()),
            ("a: 1\na: 2", ", line 2: this key occurs twice".to_owned()),
            (
                "port_pub: 65536",
                "wrong value for 'port_pub': expected a port from 0 to 65535".to_owned(),
            ),
            (
                "mmap_enabled: maybe",
                "wrong value for 'mmap_enabled': expected yes or no".to_owned(),
            ),
        ] {
            assert_eq!(wrong(text), expected, "{text}");
        }
        assert!(parse("a: 'x").unwrap_err().starts_with(", line "));
    }
}
