//! The first words to a Redis: whether it lets this user in. The error tells the person who starts the server
//! what to do if not.

use redis::{ConnectionLike, RedisError, cmd};

use super::node_pool::{self, NodePool};

/// Refuses a Redis that lets nobody in, or is none.
pub fn preflight(node_pool: &NodePool) -> Result<(), String> {
    let greeted = node_pool
        .connect(node_pool::ANSWER)
        .and_then(|mut connection| connection.req_command(&cmd("PING"))?.extract_error());
    greeted.map(drop).map_err(|error| advice(&error, node_pool))
}

fn advice(error: &RedisError, node_pool: &NodePool) -> String {
    let (at, why) = (format!("Redis at {}", node_pool.address()), node_pool::reason(error));
    match error.code() {
        Some("NOAUTH") => {
            return format!(
                "{at} asks for a password: …://USER:PASSWORD@HOST, best said in DSMQ_STORE"
            );
        }
        Some("NOPERM") => return node_pool::not_permitted(error).text.into_owned(),
        _ => {}
    }
    if node_pool::refuses_user(error) {
        return format!(
            "{at} does not let this user in: are name and password right, and does it ask for any?"
        );
    }
    if node_pool::is_no_redis(error) {
        return format!("what answers at {} is no Redis: is it another port?", node_pool.address());
    }
    if why.contains("certificate") {
        return format!(
            "{at} is not trusted ({why}): SSL_CERT_FILE names a file of certificates that are"
        );
    }
    let hangs_up = error.is_connection_dropped() && !error.is_connection_refusal();
    match node_pool.has_tls() {
        true if hangs_up || error.is_timeout() => {
            format!("{at} does not answer by TLS ({why}): without TLS it is redis://")
        }
        false if hangs_up => format!("{at} hangs up ({why}): does it want TLS, rediss://?"),
        _ if error.is_io_error() => format!("{at} does not answer ({why}): does it run there?"),
        _ => format!("{at} refuses ({why})"),
    }
}
