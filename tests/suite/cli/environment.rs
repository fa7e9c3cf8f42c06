//! The command in the environments where it runs: variables that others set, files that it does not need,
//! SIGHUP, and a terminal.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::suite::support::folder::Folder;
use crate::suite::support::peer::{Peer, ask};
use crate::suite::support::process::{Process, dsmq, dsmq_at, run};
use crate::suite::support::server;

#[test]
fn address_of_a_kubernetes_service_is_ignored() {
    let folder = Folder::new("kubernetes");
    fs::write(folder.path("dsmq.toml"), "port = 0\n").unwrap();
    let mut command = dsmq(&[]);
    command.current_dir(folder.path("")).env("DSMQ_PORT", "tcp://10.1.2.3:30008");
    let (process, addr) = Process::server(command.stderr(folder.output("log")));
    Peer::connect(addr).ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    drop(process);
    assert!(folder.text("log").contains("ignored DSMQ_PORT=tcp://10.1.2.3:30008"));
}

#[test]
fn error_of_the_environment_names_the_variable() {
    for (variable, value) in [("DSMQ_PORT", "http"), ("DSMQ_SYNC", "on"), ("DSMQ_KEEP", "7")] {
        let ended = run(dsmq(&[]).env(variable, value), "");
        assert_eq!(ended.code, Some(2));
        let named = format!("the value comes from the environment variable {variable}");
        assert!(ended.stderr.contains(&named), "{}", ended.stderr);
        let flag = variable.replace("DSMQ_", "--").to_lowercase();
        let typed = run(dsmq(&[&flag, value]).env(variable, value), "");
        assert!(!typed.stderr.contains("environment variable"), "{}", typed.stderr);
    }
}

#[test]
fn check_and_backup_ignore_settings_they_do_not_need() {
    let folder = Folder::new("needless");
    let at = |args: &[&str]| {
        let mut command = dsmq(args);
        command.current_dir(folder.path(""));
        command
    };
    let (process, _) = Process::server(&mut at(&["--port", "0", "--store", "q.db"]));
    let kill = ["-TERM", &process.id().to_string()];
    assert!(Command::new("kill").args(kill).status().unwrap().success());
    assert_eq!(process.end().code, Some(0));
    fs::write(folder.path("dsmq.toml"), "unknown = 1\nport = 'x'\nstore = 'q.db'\n").unwrap();
    for args in
        [&["check", "q.db"][..], &["backup", "copy.db"], &["--store", "q.db", "backup", "b"]]
    {
        let ended = run(at(args).env("DSMQ_SYNC", "on").env("DSMQ_MAX_STORE", "much"), "");
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
    }
    fs::remove_file(folder.path("dsmq.toml")).unwrap();
    fs::rename(folder.path("q.db"), folder.path("dsmq.db")).unwrap();
    fs::write(folder.path("O3one.yaml"), "persist_enabled: yes\ndb_path: .\n").unwrap();
    let ended = run(at(&["backup", "o3one.db"]).env("DSMQ_O3ONE_CONF", "O3one.yaml"), "");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "O3one.yaml names the store");
    let ended = run(at(&["put", "t", "1"]).env("DSMQ_LOG", "loud"), "");
    assert_eq!(ended.code, Some(2), "other commands need a valid environment");
}

#[test]
fn client_works_in_a_directory_that_it_may_not_read() {
    let server = server();
    let folder = Folder::new("unreadable");
    let closed = folder.path("closed");
    fs::create_dir(&closed).unwrap();
    // The shell enters the directory, and then may not search it any more.
    let script = r#"cd "$1" && chmod 0 . && exec "$0" put t 1"#;
    let mut command = Command::new("sh");
    command.env("DSMQ_PORT", server.addr().port().to_string());
    if rustix::process::geteuid().is_root() {
        // Root may search every directory, so another user runs a copy that it can reach.
        let reachable = std::env::temp_dir().join(format!("dsmq-{}", std::process::id()));
        fs::create_dir_all(reachable.join("closed")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_dsmq"), reachable.join("dsmq")).unwrap();
        fs::set_permissions(&reachable, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(reachable.join("closed"), Some(65_534), None).unwrap();
        command.arg("-c").arg(script).arg(reachable.join("dsmq")).arg(reachable.join("closed"));
        let ended = run(command.uid(65_534), "");
        fs::remove_dir_all(reachable).unwrap();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
        return;
    }
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_dsmq")).arg(&closed);
    let ended = run(&mut command, "");
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn sighup_reloads_the_log_level_and_never_ends_the_server() {
    let folder = Folder::new("reload");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" --port 0 2>&1"#, env!("CARGO_BIN_EXE_dsmq")]);
    shell.current_dir(folder.path(""));
    for (name, _) in dsmq(&[]).get_envs() {
        shell.env_remove(name);
    }
    let settings = |text: &str| fs::write(folder.path("dsmq.toml"), text).unwrap();
    settings("log = 'info'\n");
    let mut server = Process::spawn(&mut shell);
    let line_with = |server: &mut Process, text: &str| loop {
        let line = server.line();
        assert!(text.contains("DEBUG") || !line.contains("DEBUG"), "{line}");
        if line.contains(text) {
            return line;
        }
    };
    let line = line_with(&mut server, "dsmq listening on");
    let addr = line.split(' ').nth(3).unwrap().parse().unwrap();
    let hang_up = |server: &Process| {
        let kill = ["-HUP", &server.id().to_string()];
        assert!(Command::new("kill").args(kill).status().unwrap().success());
    };
    settings("log = 'loud'\n");
    hang_up(&server);
    let line = line_with(&mut server, "SIGHUP");
    assert!(line.contains("ERROR") && line.contains("dsmq.toml, line 1"), "{line}");
    settings("log = 'debug'\nmax-store = '1MiB'\n");
    hang_up(&server);
    line_with(&mut server, "the log level is debug");
    line_with(&mut server, "restart to adopt them");
    Peer::connect(addr).ask(r#"{"action":"ping"}"#, r#"{"ok":true}"#);
    line_with(&mut server, "DEBUG");
}

#[test]
fn terminal_receives_no_control_or_bidi_characters() {
    let server = server();
    let mut peer = Peer::connect(server.addr());
    let topic = "t\u{202e}";
    let put = serde_json::json!({"action": "put", "topic": topic, "confirm": true,
        "message": "a\u{1b}]0;x\u{7}\u{9b}31m\u{202e}b\nc"});
    assert_eq!(ask(&mut peer, &put)["ok"], true);
    for args in [&["get", topic][..], &["history", topic], &["topics"], &["take", topic]] {
        let seen = on_terminal(&mut dsmq_at(server.addr(), args));
        assert!(seen.contains(r"\u{202e}"), "{seen:?}");
        let controls = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'];
        assert!(!seen.contains(controls), "{seen:?}");
    }
    assert_eq!(ask(&mut peer, &put)["ok"], true);
    let seen = on_terminal(&mut dsmq_at(server.addr(), &["get", topic]));
    assert_eq!(seen.replace('\r', ""), "a\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{202e}b\nc\n");
    let piped = run(&mut dsmq_at(server.addr(), &["get", topic]), "");
    assert_eq!(piped.stdout, ["a\u{1b}]0;x\u{7}\u{9b}31m\u{202e}b", "c"]);
    let json = on_terminal(&mut dsmq_at(server.addr(), &["get", topic, "--json"]));
    assert!(json.contains('\u{202e}'), "{json:?}");
}

/// What the command prints on a terminal.
fn on_terminal(command: &mut Command) -> String {
    let mut terminal = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let child_end = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(child_end).spawn().unwrap();
    command.stdout(Stdio::null());
    assert!(child.wait().unwrap().success());
    let mut seen = Vec::new();
    // Linux ends a terminal that nobody has open with an error.
    let _ = terminal.read_to_end(&mut seen);
    String::from_utf8(seen).unwrap()
}
