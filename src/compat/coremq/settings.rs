//! CoreMQ's settings: `--coremq` and the coremq.conf that its users already have.

use std::io;
use std::path::Path;

use crate::config::file::read_text;
use crate::config::ports::CoreMqPort;
use crate::config::{Config, StoreLocation, ports};

/// Read if it exists and `--coremq-conf` does not name another file.
const CONF: &str = "coremq.conf";

/// The default port of CoreMQ's WebSocket.
const WEB_PORT: u16 = 9000;

const QUEUES: &str = "CoreMQ";
const WEB: &str = "CoreWS";
/// The section whose keys are the defaults of all other sections.
const DEFAULT: &str = "DEFAULT";

/// CoreMQ's listeners and replicants.
#[derive(Debug, Default, PartialEq)]
pub struct CoreMqSettings {
    pub host: String,
    pub port: u16,
    /// The address and port of the separate WebSocket listener.
    pub web: Option<(String, u16)>,
    /// Hosts whose connections may become replicants.
    pub replicants: Vec<String>,
    /// Lines for the log at start: the file that was read, and its unused keys.
    pub remarks: Vec<String>,
}

impl CoreMqSettings {
    /// Combines the configuration with coremq.conf; `None` without `--coremq`.
    ///
    /// # Errors
    ///
    /// One line that names the file, the line and the fault.
    pub fn read(config: &Config) -> Result<Option<CoreMqSettings>, String> {
        let named = config.coremq_conf.as_deref();
        let Some(port) = config.coremq else {
            return match named {
                None => Ok(None),
                Some(path) => Err(format!("{} needs --coremq: add that flag", path.display())),
            };
        };
        let path = named.unwrap_or(Path::new(CONF));
        let text = match read_text(path) {
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
            Ok(text) => Some(text),
        };
        let is_shared = matches!(config.store, StoreLocation::Redis(_));
        let parsed = parse(text.as_deref(), port, &config.host, is_shared);
        let mut coremq = parsed.map_err(|error| format!("{}{error}", path.display()))?;
        if text.is_some() {
            let remarks = coremq.remarks.iter();
            let mut lines: Vec<_> =
                remarks.map(|remark| format!("{}: {remark}", path.display())).collect();
            lines.insert(0, format!("read CoreMQ's configuration file {}", path.display()));
            coremq.remarks = lines;
        }
        Ok(Some(coremq))
    }
}

fn hosts(list: &str) -> impl Iterator<Item = String> {
    let hosts = list.split([',', '\n']).map(str::trim);
    hosts.filter(|host| !host.is_empty()).map(str::to_owned)
}

/// Reads the text of coremq.conf, if there is one. With a shared store `cluster_nodes` are allowed,
/// since all servers have the same queues.
fn parse(
    text: Option<&str>,
    port: CoreMqPort,
    host: &str,
    is_shared: bool,
) -> Result<CoreMqSettings, String> {
    let sections = parse_ini(text.unwrap_or_default())
        .map_err(|(line, wrong)| format!(", line {line}: {wrong}"))?;
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    let mut coremq =
        CoreMqSettings { host: host.to_owned(), port: ports::COREMQ, ..CoreMqSettings::default() };
    let default = section(DEFAULT);
    let queues = SectionKeys { name: QUEUES, sections: [section(QUEUES), default] };
    match queues.address()? {
        Some(address) => coremq.host = address,
        None => coremq.remarks.push(format!(
            "no address for CoreMQ: listening on {host}, where CoreMQ's own server listened on 0.0.0.0"
        )),
    }
    coremq.port = match (port, queues.port()?) {
        (CoreMqPort::Port(port), in_file) => {
            if in_file.is_some_and(|other| other != port) {
                coremq.remarks.push(format!("--coremq={port} overrides the port of [CoreMQ]"));
            }
            port
        }
        (CoreMqPort::Own, in_file) => in_file.unwrap_or(ports::COREMQ),
    };
    if let Some(entry) = queues.get("cluster_nodes").filter(|entry| !entry.value.is_empty()) {
        if !is_shared {
            return Err(format!(
                ", line {}: cluster_nodes must share their queues: start each with the same \
                 --store redis://…, or remove the key and connect all programs to this server",
                entry.line
            ));
        }
        let text = "cluster_nodes of [CoreMQ] has no effect: servers that share one Redis have the same queues";
        coremq.remarks.push(text.to_owned());
        coremq.replicants.extend(hosts(&entry.value));
    }
    if let Some(entry) = queues.get("allowed_replicants") {
        coremq.replicants.extend(hosts(&entry.value));
    }
    if let Some(web) = section(WEB) {
        let keys = SectionKeys { name: WEB, sections: [Some(web), default] };
        let address = keys.address()?.unwrap_or_else(|| host.to_owned());
        let port = keys.port()?.unwrap_or(WEB_PORT);
        if cfg!(feature = "http") {
            coremq.web = Some((address, port));
        } else {
            coremq.remarks.push(format!("[{WEB}] is not served: this build has no HTTP"));
        }
    }
    let unused = sections.iter().flat_map(unused);
    coremq.remarks.extend(unused);
    Ok(coremq)
}

/// A section's keys, with the defaults of the section `DEFAULT`.
struct SectionKeys<'a> {
    name: &'static str,
    sections: [Option<&'a IniSection>; 2],
}

impl<'a> SectionKeys<'a> {
    fn get(&self, key: &str) -> Option<&'a IniEntry> {
        let mut entries = self.sections.into_iter().flatten().flat_map(|section| &section.entries);
        entries.find(|entry| entry.key == key)
    }

    fn address(&self) -> Result<Option<String>, String> {
        let Some(entry) = self.get("address") else { return Ok(None) };
        if entry.value.is_empty() || entry.value.contains(char::is_whitespace) {
            return Err(self.wrong(entry, "expected an IP address or a host name"));
        }
        Ok(Some(entry.value.clone()))
    }

    fn port(&self) -> Result<Option<u16>, String> {
        let Some(entry) = self.get("port") else { return Ok(None) };
        let port = entry.value.parse();
        port.map(Some).map_err(|_| self.wrong(entry, "expected a port from 0 to 65535"))
    }

    fn wrong(&self, entry: &IniEntry, instead: &str) -> String {
        let IniEntry { line, key, .. } = entry;
        format!(", line {line}: wrong value for {key} of [{}]: {instead}", self.name)
    }
}

/// One line for each unused key, with the reason.
fn unused(section: &IniSection) -> Vec<String> {
    let name = section.name.escape_debug();
    if ![QUEUES, WEB, DEFAULT].contains(&section.name.as_str()) {
        return vec![format!("[{name}] is not used: CoreMQ has no such section")];
    }
    let unused = section.entries.iter().filter_map(|entry| {
        let why = match entry.key.as_str() {
            "address" | "port" => return None,
            "cluster_nodes" | "allowed_replicants" if section.name != WEB => return None,
            "log_file" => "the log goes to standard error",
            "log_level" => "--log sets what is logged",
            _ => "CoreMQ has no such key",
        };
        Some(format!("{} of [{name}] is not used: {why}", entry.key.escape_debug()))
    });
    unused.collect()
}

/// A section `[name]` and its entries in file order.
#[derive(Debug, Default, PartialEq)]
struct IniSection {
    name: String,
    entries: Vec<IniEntry>,
}

#[derive(Debug, PartialEq)]
struct IniEntry {
    line: usize,
    /// In lower case.
    key: String,
    value: String,
}

/// Parses INI as Python's configparser does: case-insensitive keys, values that continue on
/// indented lines, and comments on lines of their own. An error is a line number and the fault.
fn parse_ini(text: &str) -> Result<Vec<IniSection>, (usize, &'static str)> {
    let mut sections: Vec<IniSection> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, whole) in (1..).zip(text.lines()) {
        let trimmed = whole.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let refuse = |why| Err((line, why));
        let last = sections.last_mut();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if sections.iter().any(|section| section.name == name) {
                return refuse("this section occurs twice");
            }
            sections.push(IniSection { name: name.to_owned(), entries: Vec::new() });
            continue;
        }
        let Some(section) = last else {
            return refuse("expected a section first, such as [CoreMQ]");
        };
        if whole.starts_with([' ', '\t'])
            && let Some(entry) = section.entries.last_mut()
        {
            entry.value += "\n";
            entry.value += trimmed;
            continue;
        }
        let Some((key, value)) = trimmed.split_once(['=', ':']) else {
            return refuse("expected a [section] or key = value");
        };
        let key = key.trim().to_lowercase();
        if section.entries.iter().any(|entry| entry.key == key) {
            return refuse("this key occurs twice");
        }
        section.entries.push(IniEntry { line, key, value: value.trim().to_owned() });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CoreMqSettings, String> {
        parse(Some(text), CoreMqPort::Own, "127.0.0.1", false)
    }

    #[test]
    #[cfg(feature = "http")]
    fn unused_keys_are_reported() {
        let all = "[CoreMQ]\naddress = 0.0.0.0\nport = 1\nlog_file = stdout\nlog_level = DEBUG\n\
                   cluster_nodes =\nallowed_replicants = a, b.example,\n  c\n\
                   [CoreWS]\naddress = ::1\nport = 2\nlog_file = x\nlog_level = INFO\ncolour = red\n[Other]\n";
        let coremq = read(all).unwrap();
        assert_eq!((coremq.host.as_str(), coremq.port), ("0.0.0.0", 1));
        assert_eq!(coremq.web, Some(("::1".to_owned(), 2)));
        assert_eq!(coremq.replicants, ["a", "b.example", "c"]);
        assert_eq!(
            coremq.remarks,
            [
                "log_file of [CoreMQ] is not used: the log goes to standard error",
                "log_level of [CoreMQ] is not used: --log sets what is logged",
                "log_file of [CoreWS] is not used: the log goes to standard error",
                "log_level of [CoreWS] is not used: --log sets what is logged",
                "colour of [CoreWS] is not used: CoreMQ has no such key",
                "[Other] is not used: CoreMQ has no such section",
            ]
        );
    }

    #[test]
    #[cfg(feature = "http")]
    fn missing_keys_have_coremqs_defaults() {
        let none = parse(None, CoreMqPort::Own, "127.0.0.1", false).unwrap();
        assert_eq!((none.host.as_str(), none.port, &none.web), ("127.0.0.1", 6747, &None));
        assert_eq!(none.remarks.len(), 1, "{none:?}");
        let web = read("[CoreWS]").unwrap().web;
        assert_eq!(web, Some(("127.0.0.1".to_owned(), 9000)));
        let default = read("[DEFAULT]\nport = 7\n[CoreMQ]\nport = 8\n[CoreWS]\n").unwrap();
        assert_eq!((default.port, default.web.unwrap().1), (8, 7));
    }

    #[test]
    fn port_of_the_flag_overrides_the_file() {
        let text = "[CoreMQ]\naddress = ::1\nport = 1";
        let typed = parse(Some(text), CoreMqPort::Port(2), "::1", false);
        let typed = typed.unwrap();
        assert_eq!(typed.port, 2);
        assert_eq!(typed.remarks, ["--coremq=2 overrides the port of [CoreMQ]"]);
    }

    #[test]
    fn cluster_nodes_over_one_store_may_be_replicants() {
        let text = "[CoreMQ]\ncluster_nodes = a, b\nallowed_replicants = c";
        let coremq = parse(Some(text), CoreMqPort::Own, "127.0.0.1", true).unwrap();
        assert_eq!(coremq.replicants, ["a", "b", "c"]);
        assert!(coremq.remarks.iter().any(|remark| remark.starts_with("cluster_nodes")));
    }

    #[test]
    fn invalid_settings_are_reported_with_their_line() {
        for (text, begin) in [
            ("[CoreMQ]\nport = x", ", line 2: wrong value for port of [CoreMQ]: expected a port"),
            (
                "[CoreWS]\naddress =",
                ", line 2: wrong value for address of [CoreWS]: expected an IP",
            ),
            ("[CoreMQ]\ncluster_nodes = a,b", ", line 2: cluster_nodes must share their queues"),
            ("port = 1", ", line 1: expected a section first"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(begin) && !refused.contains('\n'), "{refused}");
        }
    }

    fn entry(line: usize, key: &str, value: &str) -> IniEntry {
        IniEntry { line, key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn ini_is_read_as_by_configparser() {
        let text = "\u{feff}# comment\r\n[A]\r\nKey = one = 1\r\n; or so\r\n\r\nlist: a,\r\n  b,\n\tc\n\
                    empty =\n[ b ]\n  indented = x # no comment\n";
        let first =
            vec![entry(3, "key", "one = 1"), entry(6, "list", "a,\nb,\nc"), entry(9, "empty", "")];
        let second = vec![entry(11, "indented", "x # no comment")];
        let sections = [("A", first), (" b ", second)];
        let sections =
            sections.map(|(name, entries)| IniSection { name: name.to_owned(), entries });
        assert_eq!(parse_ini(text), Ok(sections.into()));
        assert_eq!(parse_ini(""), Ok(vec![]));
    }

    #[test]
    fn invalid_ini_is_refused_with_its_line() {
        for (text, line) in [
            ("a = 1", 1),
            ("[A]\nnonsense", 2),
            ("[A]\na = 1\nA = 2", 3),
            ("[A]\n[B]\n[A]", 3),
            ("[A\n", 1),
        ] {
            assert_eq!(parse_ini(text).unwrap_err().0, line, "{text:?}");
        }
    }
}
