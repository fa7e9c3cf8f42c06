//! The Lua scripts: Redis runs each atomically.
//!
//! | script | purpose |
//! | --- | --- |
//! | `apply` | a batch: one function for each operation of the store |
//! | `tick` | due work |
//! | `read` | everything that changes nothing |
//!
//! Each begins with the constants below and the shared files `store`, `put`, `take`, `remove` and
//! `copy`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use redis::Cmd;
use sha1_smol::Sha1;

use crate::error::{Code, Error};
use crate::limits;
use crate::ops::{DEAD_SUFFIX, ID_END, PRIORITY_DEFAULT, PRIORITY_MAX};
use crate::store::errors;

/// Bytes that a message counts besides its body, and a topic besides its name, against
/// `--max-store`.
pub const MESSAGE_BYTES: u64 = 100;
pub const TOPIC_BYTES: u64 = 1_000;

/// Defines the outcomes in script replies, as constants for both Rust and Lua.
macro_rules! outcomes {
    ($($name:ident = $number:literal,)*) => {
        pub mod outcome {
            $(pub const $name: i64 = $number;)*
        }
        const OUTCOMES: &[(&str, u64)] = &[$((stringify!($name), $number),)*];
    };
}

outcomes! {
    STORED = 1,
    DUPLICATE = 2,
    DUE = 3,
    DUE_DUPLICATE = 4,
    TAKEN = 5,
    NOTHING = 6,
    LOOK = 7,
    NO_LOOK = 8,
    DONE = 9,
    DELETED = 10,
    PURGED = 11,
    REFUSED = 12,
}

#[derive(Clone, Copy, Debug)]
pub enum Script {
    Apply,
    Tick,
    Read,
}

static TEXTS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let ends = [
        include_str!("scripts/apply.lua"),
        include_str!("scripts/tick.lua"),
        include_str!("scripts/read.lua"),
    ];
    let shared = [
        include_str!("scripts/store.lua"),
        include_str!("scripts/put.lua"),
        include_str!("scripts/take.lua"),
        include_str!("scripts/remove.lua"),
        include_str!("scripts/copy.lua"),
    ];
    let begin = constants() + &shared.concat();
    ends.map(|end| format!("{begin}{end}"))
});

static DIGESTS: LazyLock<[String; 3]> =
    LazyLock::new(|| TEXTS.each_ref().map(|text| Sha1::from(text).digest().to_string()));

pub fn texts() -> &'static [String] {
    &*TEXTS
}

/// The commands that scripts run on keys.
pub fn commands() -> BTreeSet<&'static str> {
    let calls = TEXTS.iter().flat_map(|text| text.split("call('").skip(1));
    calls.filter_map(|call| call.split('\'').next()).collect()
}

/// The SHA-1 by which Redis knows a script.
pub fn digest(script: Script) -> &'static str {
    let [apply, tick, read] = &*DIGESTS;
    match script {
        Script::Apply => apply,
        Script::Tick => tick,
        Script::Read => read,
    }
}

/// The constants as Lua source.
fn constants() -> String {
    let rank = u64::from(PRIORITY_MAX - PRIORITY_DEFAULT);
    let numbers = [
        ("MESSAGE_BYTES", MESSAGE_BYTES),
        ("TOPIC_BYTES", TOPIC_BYTES),
        ("TOPICS_SHARE", errors::TOPICS_SHARE),
        ("NAME_BYTES", limits::TOPIC_BYTES as u64),
        ("TAKEN_BYTES", limits::TAKEN_BYTES as u64),
        ("RUN_BYTES", limits::CHUNK_BYTES as u64),
        ("RUN_MESSAGES", limits::CHUNK_MESSAGES as u64),
        ("HISTORY_BYTES", limits::HISTORY_BYTES as u64),
        ("COPY_MESSAGES", limits::COPY_MESSAGES as u64),
        ("COPY_BYTES", limits::COPY_BYTES as u64),
        ("DEDUPE", limits::DEDUPE.as_micros() as u64),
        ("RANK_DEFAULT", rank),
        ("MAX_DUE", ID_END),
        // Limits of one script run: due rows and dropped messages.
        ("DUE_TOPICS", 64),
        ("DUE_ROWS", 256),
        ("DROPS", 1_000),
        ("DROP_RUN", 64),
        ("DROP_BYTES", limits::TAKEN_BYTES as u64),
    ];
    let constants = numbers.iter().chain(OUTCOMES);
    let constants: String =
        constants.map(|(name, value)| format!("local {name} = {value}\n")).collect();
    format!("{constants}local DEAD_SUFFIX = '{DEAD_SUFFIX}'\n")
}

/// Adds a number, or an empty text for none.
pub fn optional(call: &mut Cmd, number: Option<u64>) -> &mut Cmd {
    match number {
        Some(number) => call.arg(number),
        None => call.arg(""),
    }
}

/// Adds a text after a `=`, or an empty text for none.
pub fn text<'c>(call: &'c mut Cmd, text: Option<&str>) -> &'c mut Cmd {
    match text {
        Some(text) => call.arg(format!("={text}")),
        None => call.arg(""),
    }
}

/// The error for a reply that none of our scripts gives.
pub fn bad_reply() -> Error {
    Error::new(
        Code::StoreFailed,
        "Redis sent an unexpected reply: check that no other program uses the keys of --redis-prefix",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_lists_what_scripts_run() {
        let commands = commands();
        for command in ["XADD", "XDEL", "XRANGE", "XREVRANGE", "HSET", "ZADD", "LPUSHX", "UNLINK"] {
            assert!(commands.contains(command), "{command}");
        }
        let wrong = |command: &&&str| !command.bytes().all(|byte| byte.is_ascii_uppercase());
        assert_eq!(commands.iter().find(wrong), None);
    }
}
