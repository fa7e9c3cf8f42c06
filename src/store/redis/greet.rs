//! The first words to a Redis when a store is opened: whether it lets this user in and do all that scripts do.
//! Who started the server is told what to do if not.

use redis::{Cmd, ConnectionLike, RedisError, Value, cmd};

use super::link::{self, Link};
use super::scripts;
use super::shard::Shard;

/// Says the first command that this user may not run on the store's keys, or that this is a replica. Redis can
/// tell the first from 7.0 on.
const ASK: &str = "
    local prefix = string.sub(KEYS[1], 1, -6)
    local may = redis.acl_check_cmd
    for i, command in ipairs(ARGV) do
        local on = string.find(command, 'PUBLISH', 1, true) and prefix .. 'news' or KEYS[1]
        if may and not may(command, on) then return command end
    end
    if may and not may('SCRIPT', 'LOAD', '') then return 'SCRIPT LOAD' end
    local wrote = redis.pcall('LPUSHX', prefix .. 'nowhere', '')
    return type(wrote) == 'table' and string.find(wrote.err, 'READONLY', 1, true) and 'replica' or ''";

/// Refuses a Redis that lets nobody in, or is none.
pub fn greet(link: &Link) -> Result<(), String> {
    let greeted = link
        .connect(link::ANSWER)
        .and_then(|mut connection| connection.req_command(&cmd("PING"))?.extract_error());
    greeted.map(drop).map_err(|error| advice(&error, link))
}

fn advice(error: &RedisError, link: &Link) -> String {
    let (at, why) = (format!("Redis at {}", link.address()), link::reason(error));
    match error.code() {
        Some("NOAUTH") => {
            return format!(
                "{at} asks for a password: …://USER:PASSWORD@HOST, best said in DSMQ_STORE"
            );
        }
        Some("NOPERM") => return link::not_permitted(error).text.into_owned(),
        _ => {}
    }
    if link::refuses_user(error) {
        return format!(
            "{at} does not let this user in: are name and password right, and does it ask for any?"
        );
    }
    if link::is_no_redis(error) {
        return format!("what answers at {} is no Redis: is it another port?", link.address());
    }
    if why.contains("certificate") {
        return format!(
            "{at} is not trusted ({why}): SSL_CERT_FILE names a file of certificates that are"
        );
    }
    let hangs_up = error.is_connection_dropped() && !error.is_connection_refusal();
    match link.has_tls() {
        true if hangs_up || error.is_timeout() => {
            format!("{at} does not answer by TLS ({why}): without TLS it is redis://")
        }
        false if hangs_up => format!("{at} hangs up ({why}): does it want TLS, rediss://?"),
        _ if error.is_io_error() => format!("{at} does not answer ({why}): does it run there?"),
        _ => format!("{at} refuses ({why})"),
    }
}

impl Shard {
    /// Refuses a node that would break scripts off in their middle, or takes none.
    pub fn may_write(&self) -> Result<(), String> {
        let is_cluster = self.common.nodes.is_cluster();
        let mut ask: Cmd = cmd("EVAL");
        ask.arg(ASK).arg(1).arg(&self.key).arg(scripts::commands());
        ask.arg(if is_cluster { "SPUBLISH" } else { "PUBLISH" });
        if self.common.replicas > 0 {
            ask.arg("WAIT");
        }
        let answer = self.call(&ask).map_err(|error| error.text.into_owned())?;
        let Value::BulkString(answer) = answer else { return Ok(()) };
        let address = self.route.link().address().to_string();
        match &*String::from_utf8_lossy(&answer) {
            "" => Ok(()),
            "replica" => Err(format!("Redis at {address} is a replica: name its master")),
            command => Err(format!(
                "Redis at {address} does not let this user do {command} on {}*: docs/scaling.md lists the \
                 rights that it needs",
                self.key.trim_end_matches("store")
            )),
        }
    }
}
