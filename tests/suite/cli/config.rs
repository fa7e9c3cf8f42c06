//! The configuration as a user meets it: what is said where, what goes before what, and the line
//! that says what is wrong.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::suite::support::process::{Ended, Process, dsmq, run};

/// A directory that is gone when its test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("config-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// One with this `dsmq.toml` in it.
    fn with(name: &str, file: impl AsRef<[u8]>) -> Folder {
        let folder = Folder::new(name);
        fs::write(folder.join("dsmq.toml"), file).unwrap();
        folder
    }

    /// The command, with this as its working directory.
    fn dsmq(&self, args: &[&str]) -> Command {
        let mut command = dsmq(args);
        command.current_dir(&self.0);
        command
    }

    /// What a server there says that its configuration is, and which file it has read before.
    fn configured(&self, env: &[(&str, &str)], args: &[&str]) -> (String, Option<String>) {
        let mut shell = Command::new("sh");
        for (name, _) in dsmq(&[]).get_envs() {
            shell.env_remove(name);
        }
        shell.args(["-c", r#"exec "$0" "$@" 2>&1"#, env!("CARGO_BIN_EXE_dsmq")]).args(args);
        let mut server = Process::spawn(shell.current_dir(&self.0).envs(env.iter().copied()));
        let mut read = None;
        loop {
            let line = server.line();
            if let Some((_, file)) = line.split_once("read the configuration file ") {
                assert!(line.contains(" INFO "), "{line}");
                read = Some(file.to_owned());
            }
            if let Some(start) = line.find("Config {") {
                return (line[start..].to_owned(), read);
            }
        }
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fails(command: &mut Command, line: &str) {
    let expected = Ended { code: Some(2), stdout: vec![], stderr: format!("{line}\n") };
    assert_eq!(run(command, ""), expected, "{command:?}");
}

/// A flag, and what file, environment and command line say of it, each with how it is shown.
type Layers = (&'static str, [(&'static str, &'static str); 3]);

/// No host of these is one, so that no server listens at these ports.
const LAYERS: [Layers; 24] = [
    (
        "host",
        [
            ("file.invalid", r#""file.invalid""#),
            ("env.invalid", r#""env.invalid""#),
            ("flag.invalid", r#""flag.invalid""#),
        ],
    ),
    ("port", [("1", "1"), ("2", "2"), ("3", "3")]),
    ("coremq", [("1", "Some(Port(1))"), ("0", "Some(Port(0))"), ("true", "Some(Own)")]),
    (
        "coremq-conf",
        [
            ("file.conf", r#"Some("file.conf")"#),
            ("env.conf", r#"Some("env.conf")"#),
            ("flag.conf", r#"Some("flag.conf")"#),
        ],
    ),
    (
        "o3one",
        [
            ("1,2,3", "Some(O3onePorts { subscribe: 1, publish: 2, websocket: 3, page: None })"),
            (
                "0,0,0,0",
                "Some(O3onePorts { subscribe: 0, publish: 0, websocket: 0, page: Some(0) })",
            ),
            (
                "true",
                "Some(O3onePorts { subscribe: 5555, publish: 5556, websocket: 8765, page: Some(9000) })",
            ),
        ],
    ),
    ("o3one-ack", [("yes", r#""yes""#), ("", r#""""#), ("thank you", r#""thank you""#)]),
    ("o3one-priority", [("true", "true"), ("false", "false"), ("true", "true")]),
    (
        "mezzenger",
        [("1,2", "Some([1, 2])"), ("0,0", "Some([0, 0])"), ("true", "Some([7201, 7202])")],
    ),
    ("mezzenger-resend", [("1s", "1s"), ("2m", "120s"), ("3h", "10800s")]),
    ("max-connections", [("5", "5"), ("6", "6"), ("7", "7")]),
    ("max-message", [("50", "50"), ("60", "60"), ("70", "70")]),
    ("dead-letter-after", [("1", "1"), ("2", "2"), ("3", "3")]),
    (
        "store",
        [
            ("file.db", r#"File("file.db")"#),
            ("env.db", r#"File("env.db")"#),
            ("flag.db", r#"File("flag.db")"#),
        ],
    ),
    ("redis-prefix", [("a:", r#""a:""#), ("b:", r#""b:""#), ("c:", r#""c:""#)]),
    ("redis-pool", [("5", "5"), ("6", "6"), ("7", "7")]),
    ("redis-replicas", [("1", "1"), ("2", "2"), ("3", "3")]),
    ("sync", [("normal", "Normal"), ("off", "Off"), ("full", "Full")]),
    ("keep", [("90s", "Some(90s)"), ("15m", "Some(900s)"), ("7d", "Some(604800s)")]),
    ("max-store", [("64MiB", "67108864"), ("500MB", "500000000"), ("2097152", "2097152")]),
    (
        "when-full",
        [
            ("drop-oldest", "Some(DropOldest)"),
            ("refuse", "Some(Refuse)"),
            ("drop-oldest", "Some(DropOldest)"),
        ],
    ),
    (
        "allow-host",
        [
            ("a.example", r#"["a.example"]"#),
            ("b.example,c.example", r#"["b.example", "c.example"]"#),
            ("d.example", r#"["d.example"]"#),
        ],
    ),
    (
        "allow-origin",
        [
            ("https://a.example", r#"["https://a.example"]"#),
            ("http://b.example:8080,http://[::1]", r#"["http://b.example:8080", "http://[::1]"]"#),
            ("*", r#"["*"]"#),
        ],
    ),
    ("allow-shutdown", [("true", "true"), ("false", "false"), ("true", "true")]),
    (
        "log",
        [
            ("trace", "LevelFilter::TRACE"),
            ("debug", "LevelFilter::DEBUG"),
            ("5", "LevelFilter::TRACE"),
        ],
    ),
];

/// What a configuration shows if each flag is as `shown` says.
fn shown(shown: impl Fn(&'static Layers) -> &'static str) -> String {
    let fields = LAYERS.iter().map(|layers| format!("{}: {}", field(layers.0), shown(layers)));
    format!("Config {{ {} }}", fields.collect::<Vec<_>>().join(", "))
}

fn field(flag: &str) -> String {
    flag.replace('-', "_")
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = LAYERS.map(|(flag, [(value, _), ..])| format!("{flag} = \"{value}\"\n")).concat();
    let folder = Folder::with("layers", file);
    let env = LAYERS
        .map(|(flag, [_, (value, _), _])| (format!("DSMQ_{}", field(flag).to_uppercase()), value));
    let env = env.each_ref().map(|(name, value)| (name.as_str(), *value));
    let flags = LAYERS.map(|(flag, [.., (value, _)])| format!("--{flag}={value}"));
    let flags = flags.each_ref().map(String::as_str);
    let file = Some("dsmq.toml".to_owned());

    assert_eq!(folder.configured(&[], &[]), (shown(|layers| layers.1[0].1), file.clone()));
    assert_eq!(folder.configured(&env, &[]), (shown(|layers| layers.1[1].1), file.clone()));
    assert_eq!(folder.configured(&env, &flags), (shown(|layers| layers.1[2].1), file.clone()));
    // And each alone, beside the others of the layer below.
    for (number, (flag, _)) in LAYERS.iter().enumerate() {
        let one = shown(|layers| layers.1[if layers.0 == *flag { 2 } else { 0 }].1);
        assert_eq!(folder.configured(&[], &flags[number..=number]), (one, file.clone()));
        let one = shown(|layers| layers.1[usize::from(layers.0 == *flag)].1);
        assert_eq!(folder.configured(&env[number..=number], &[]), (one, file.clone()));
    }
}

#[test]
fn a_protocol_with_ports_of_its_own_may_be_a_switch() {
    for (file, o3one) in [
        ("o3one = true", "o3one: Some(O3onePorts { subscribe: 5555, "),
        ("o3one = false", "o3one: None, "),
        ("o3one = '0,0,0'", "o3one: Some(O3onePorts { subscribe: 0, "),
    ] {
        let folder = Folder::with("switch", format!("host = 'file.invalid'\n{file}"));
        let (config, _) = folder.configured(&[], &["--log", "debug"]);
        assert!(config.contains(o3one), "{config}");
    }
}

#[test]
fn numbers_need_no_quotes() {
    let folder = Folder::with("numbers", "port = 0\nmax-store = 67_108_864\nmax-message = 0x10\n");
    let (config, _) = folder.configured(&[], &["--log", "debug"]);
    assert!(config.contains("port: 0, ") && config.contains("max_store: 67108864, "), "{config}");
    assert!(config.contains("max_message: 16, "), "{config}");
}

#[test]
fn a_file_is_named_or_there_or_none_is_read() {
    let folder = Folder::new("named");
    let args = ["--log", "debug", "--port", "0"];
    let (default, read) = folder.configured(&[], &args);
    assert_eq!(read, None);
    for (name, keep) in [("dsmq.toml", "1d"), ("env.toml", "2d"), ("flag.toml", "3d")] {
        fs::write(folder.join(name), format!("keep = '{keep}'")).unwrap();
    }
    let kept = |days| default.replace("keep: None", &format!("keep: Some({}s)", days * 86_400));
    let read = |name: &str| Some(name.to_owned());
    assert_eq!(folder.configured(&[], &args), (kept(1), read("dsmq.toml")));
    let env = [("DSMQ_CONFIG", "env.toml")];
    assert_eq!(folder.configured(&env, &args), (kept(2), read("env.toml")));
    let named = [&args[..], &["--config", "flag.toml"]].concat();
    assert_eq!(folder.configured(&env, &named), (kept(3), read("flag.toml")));
    let nothing = [&args[..], &["--config", "/dev/null"]].concat();
    assert_eq!(folder.configured(&[], &nothing), (default, read("/dev/null")));
}

#[test]
fn client_verbs_know_the_server_from_the_file() {
    let (_server, addr) = Process::server(&mut dsmq(&["--port", "0"]));
    let file = format!("host = \"{}\"\nport = {}\nstore = 'server.db'", addr.ip(), addr.port());
    let folder = Folder::with("client", file);
    assert_eq!(run(&mut folder.dsmq(&["put", "t", "Hello!"]), "").code, Some(0));
    let got = run(&mut folder.dsmq(&["get", "t"]), "");
    assert_eq!((got.code, &got.stdout[..]), (Some(0), &["Hello!".to_owned()][..]), "{got:?}");

    let folder = Folder::with("no-client", "port = 1");
    let nobody_at = |port| format!("dsmq: no server at 127.0.0.1:{port}: start one with 'dsmq'");
    fails(&mut folder.dsmq(&["get", "t"]), &nobody_at(1));
    fails(folder.dsmq(&["get", "t"]).env("DSMQ_PORT", "2"), &nobody_at(2));
    for args in [["--port", "3", "get", "t"], ["get", "t", "--port", "3"]] {
        fails(folder.dsmq(&args).env("DSMQ_PORT", "2"), &nobody_at(3));
    }
    fs::write(folder.join("other.toml"), "port = 4").unwrap();
    for args in [["--config", "other.toml", "get", "t"], ["get", "t", "--config", "other.toml"]] {
        fails(&mut folder.dsmq(&args), &nobody_at(4));
    }
}

#[test]
fn what_is_wrong_with_a_file_is_one_line() {
    let kinds = "say a string, an integer or a boolean";
    let keys = LAYERS.map(|(flag, _)| flag).join(", ");
    for (file, wrong) in [
        ("prot = 5", ", line 1: unknown key 'prot': did you mean 'port'?"),
        ("config = 'a'", &format!(", line 1: unknown key 'config': there are {keys}")),
        ("# two\nport = 65536", ", line 2: wrong value for 'port': 65536 is not in 0..=65535"),
        ("sync = 'on'", ", line 1: wrong value for 'sync': say one of: full, normal, off"),
        ("max-store = 0", ", line 1: wrong value for 'max-store': must be from 1MiB to 8TiB"),
        ("keep = '0d'", ", line 1: wrong value for 'keep': must be from 1s to 36500d"),
        ("[server]\nport = 1", &format!(", line 1: 'server' has a value of type table: {kinds}")),
        ("host = ['a']", &format!(", line 1: 'host' has a value of type array: {kinds}")),
        ("port = 1\nport = 2", ", line 2, column 1: duplicate key"),
        ("port 2", ", line 1, column 6: key with no value, expected `=`"),
    ] {
        let folder = Folder::with("wrong", file);
        for args in [&[][..], &["get", "t"], &["topics"], &["--port", "0"]] {
            fails(&mut folder.dsmq(args), &format!("dsmq: dsmq.toml{wrong}"));
        }
        // Whoever asks for help is given it.
        assert_eq!(run(&mut folder.dsmq(&["--help"]), "").code, Some(0));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let folder = Folder::with("unreadable", b"host = \"\xff\"");
    fails(&mut folder.dsmq(&[]), "dsmq: cannot read dsmq.toml: stream did not contain valid UTF-8");
    let missing = "dsmq: cannot read nowhere.toml: No such file or directory (os error 2)";
    fails(&mut folder.dsmq(&["--config", "nowhere.toml"]), missing);
    fails(folder.dsmq(&["get", "t"]).env("DSMQ_CONFIG", "nowhere.toml"), missing);
    fs::create_dir(folder.join("folder")).unwrap();
    let directory = "dsmq: cannot read folder: Is a directory (os error 21)";
    fails(&mut folder.dsmq(&["--config", "folder"]), directory);
    fs::write(folder.join("long.toml"), "#".repeat(1024 * 1024 + 1)).unwrap();
    let long = "dsmq: cannot read long.toml: it is longer than 1048576 bytes";
    fails(&mut folder.dsmq(&["--config", "long.toml"]), long);
    fails(&mut folder.dsmq(&["--config", "/dev/zero"]), &long.replace("long.toml", "/dev/zero"));
}

#[test]
fn what_is_wrong_with_a_flag_or_its_variable_is_said() {
    let size = "a size is a whole number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64MiB";
    let duration =
        "a duration is a whole number and a unit: s, m, h or d, such as 90s, 15m, 12h or 7d";
    for (flag, name, value, reason) in [
        (
            "store",
            "memory|PATH|URL",
            "valkey://host",
            "no such store: say 'memory', the path of a file, redis://HOST:PORT or redis-cluster://HOST:PORT,HOST:PORT",
        ),
        (
            "store",
            "memory|PATH|URL",
            "redis-cluster://",
            "no such store: say 'memory', the path of a file, redis://HOST:PORT or redis-cluster://HOST:PORT,HOST:PORT",
        ),
        (
            "store",
            "memory|PATH|URL",
            ":memory:",
            "no path of a file: say 'memory' or a path, such as ./queue.db",
        ),
        ("keep", "DURATION", "7", duration),
        ("keep", "DURATION", "0s", "must be from 1s to 36500d"),
        ("max-store", "SIZE", "1G", size),
        ("max-store", "SIZE", "0", "must be from 1MiB to 8TiB"),
        ("max-store", "SIZE", "1048575", "must be from 1MiB to 8TiB"),
    ] {
        let expected = format!("error: invalid value '{value}' for '--{flag} <{name}>': {reason}");
        let typed = run(&mut dsmq(&[&format!("--{flag}={value}")]), "");
        let variable = format!("DSMQ_{}", field(flag).to_uppercase());
        let set = run(dsmq(&[]).env(variable, value), "");
        for ended in [typed, set] {
            assert_eq!(ended.code, Some(2), "{ended:?}");
            assert_eq!(ended.stderr.lines().next(), Some(expected.as_str()));
        }
    }
    for (flag, values) in [("sync", "full, normal, off"), ("when-full", "drop-oldest, refuse")] {
        let ended = run(&mut dsmq(&[&format!("--{flag}=never")]), "");
        let values = format!("[possible values: {values}]");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.stderr.lines().nth(1).map(str::trim), Some(values.as_str()));
    }
}

#[test]
fn a_backup_is_of_a_file() {
    let folder = Folder::with("backup", "");
    let memory =
        "dsmq: only a store in a file has one to copy: say which, dsmq --store PATH backup DEST";
    fails(&mut folder.dsmq(&["backup", "copy.db"]), memory);
    assert!(!folder.join("copy.db").exists());
    // There is no such file, however it is named.
    let fails_with_its_name = |command: &mut Command| {
        let ended = run(command, "");
        assert_eq!((ended.code, ended.stdout.len()), (Some(2), 0), "{ended:?}");
        let stderr = ended.stderr;
        assert!(stderr.starts_with("dsmq: ") && stderr.contains("queue.db"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    };
    fails_with_its_name(&mut folder.dsmq(&["--store", "queue.db", "backup", "copy.db"]));
    fails_with_its_name(folder.dsmq(&["backup", "copy.db"]).env("DSMQ_STORE", "queue.db"));
    fs::write(folder.join("dsmq.toml"), "store = 'queue.db'").unwrap();
    fails_with_its_name(&mut folder.dsmq(&["backup", "copy.db"]));
    fails_with_its_name(&mut folder.dsmq(&["check", "queue.db"]));
}

/// A file of all settings: it says the defaults, what it has in comments can be said too, and nothing
/// is missing in it.
pub fn check_file_of_all_settings(name: &str, path: &str) {
    let folder = Folder::new(name);
    let args = ["--port", "0", "--log", "debug"];
    let (default, _) = folder.configured(&[], &args);
    let named = [&args[..], &["--config", path]].concat();
    assert_eq!(folder.configured(&[], &named), (default.clone(), Some(path.to_owned())));

    let text = fs::read_to_string(path).unwrap();
    let is_key =
        |key: &str| key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let whole = text.lines().map(|line| {
        let said = line.strip_prefix("# ").unwrap_or(line);
        said.split_once(" = ").filter(|(key, _)| is_key(key)).map_or("", |_| said)
    });
    let whole: Vec<_> = whole.filter(|line| !line.is_empty()).collect();
    fs::write(folder.join("dsmq.toml"), whole.join("\n")).unwrap();
    let (config, _) = folder.configured(&[], &args);
    let kept = default.replace("keep: None", "keep: Some(604800s)");
    let kept = kept.replace("when_full: None", "when_full: Some(Refuse)");
    let kept = kept.replace("coremq: None", "coremq: Some(Port(6747))");
    let kept = kept.replace("coremq_conf: None", r#"coremq_conf: Some("coremq.conf")"#);
    let o3one = "o3one: Some(O3onePorts { subscribe: 5555, publish: 5556, websocket: 8765, page: Some(9000) })";
    let kept = kept.replace("o3one: None", o3one);
    let kept = kept.replace("mezzenger: None", "mezzenger: Some([7201, 7202])");
    let kept = kept.replace("allow_host: []", r#"allow_host: ["queue.example.com"]"#);
    let kept = kept.replace("allow_origin: []", r#"allow_origin: ["https://example.com"]"#);
    assert_eq!(config, kept);

    let mut keys: Vec<_> = whole.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let mut flags = LAYERS.map(|(flag, _)| flag);
    keys.sort_unstable();
    flags.sort_unstable();
    assert_eq!(keys, flags);
}

#[test]
fn the_example_says_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dsmq.toml");
    check_file_of_all_settings("example", path);
}

#[test]
fn the_readme_shows_a_file_that_is_understood() {
    let readme = include_str!("../../../README.md");
    let (_, file) = readme.split_once("```toml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    let folder = Folder::with("readme", file);
    let (config, _) = folder.configured(&[], &["--port", "0", "--log", "debug"]);
    let shown = r#"store: File("queue.db"), redis_prefix: "dsmq:", redis_pool: 8, redis_replicas: 0, sync: Full, keep: Some(604800s), max_store: 67108864, "#;
    assert!(config.contains(&format!("{shown}when_full: Some(DropOldest)")), "{config}");
}

#[test]
fn help_says_what_each_choice_costs() {
    let help = run(&mut dsmq(&["--help"]), "").stdout.join(" ");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "a killed server loses nothing confirmed in any mode",
        "full: Nothing confirmed: a confirmed message is on disk",
        "normal: The last moments, confirmed or not",
        "off: The whole file",
        "[default: keep them]",
        "[default: 1GiB]",
        "[default: refuse, for memory drop-oldest]",
        "[default: dsmq.toml, if it exists]",
    ] {
        assert!(help.contains(said), "{said}");
    }
}

/// That this file's table has them all.
#[test]
fn every_flag_of_the_server_is_tested_here() {
    let help = run(&mut dsmq(&["--help"]), "").stdout;
    let flags =
        help.iter().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '[']).next());
    // These name files of settings.
    let flags: Vec<_> = flags.filter(|flag| !["config", "o3one-conf"].contains(flag)).collect();
    assert_eq!(flags, LAYERS.map(|(flag, _)| flag));
}
