//! Runs a server as a program: prints its addresses and handles signals.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::{Server, StartError};
use crate::config::Config;

/// Starts a server and serves until SIGINT or SIGTERM.
///
/// Prints `dsmq listening on ADDRESS (json, http)` to standard output once it listens, and a line
/// for each further address.
///
/// # Errors
///
/// If it cannot listen at `host` and `port`, for example because another program does.
///
/// ```no_run
/// dsmq::run("127.0.0.1", 30008)?;
/// # Ok::<(), dsmq::StartError>(())
/// ```
pub fn run(host: &str, port: u16) -> Result<(), StartError> {
    run_config(Config { host: host.to_owned(), port, ..Config::default() }, || {})
}

/// [`run`] with a whole configuration. Calls `reload` at each SIGHUP, which never ends the server.
pub(crate) fn run_config(config: Config, reload: impl Fn()) -> Result<(), StartError> {
    // After the server has stopped, the signals have their default effect again.
    let default_again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, default_again.clone())
            .map_err(StartError::Signals)?;
    }
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(StartError::Signals)?;
    let stop = signals.handle();
    let server = Server::start_with(config, move || stop.close())?;
    if let Err(error) = print_addresses(&server) {
        warn!("cannot print the addresses to standard output: {error}");
    }
    let signal = signals.forever().find(|signal| {
        let is_reload = *signal == SIGHUP;
        if is_reload {
            reload();
        }
        !is_reload
    });
    // Logged after the stop, which must not wait for a slow reader of the log.
    server.stop();
    match signal {
        Some(signal) => info!("stopped at signal {signal}"),
        None => info!("stopped by a client"),
    }
    default_again.store(true, Ordering::SeqCst);
    Ok(())
}

fn print_addresses(server: &Server) -> io::Result<()> {
    let mut stdout = io::stdout();
    for (protocol, addr) in server.addresses() {
        writeln!(stdout, "dsmq listening on {addr} ({protocol})")?;
    }
    stdout.flush()
}
