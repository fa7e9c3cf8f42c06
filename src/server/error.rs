//! Errors at the start of a server.

use std::{fmt, io};

use crate::compat::Endpoint;

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot listen on the address.
    Bind {
        /// As configured, `host:port`.
        addr: String,
        /// What to do if another program uses the port.
        advice: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A value of the configuration is outside its range.
    Config(String),
    /// The store cannot be opened.
    Store(String),
    /// A thread cannot be spawned.
    Thread(io::Error),
    /// The handlers of the signals that stop the server cannot be installed.
    Signals(io::Error),
}

impl StartError {
    pub(super) fn bind(endpoint: &Endpoint, source: io::Error) -> StartError {
        let addr = format!("{}:{}", endpoint.host, endpoint.port);
        StartError::Bind { addr, advice: endpoint.advice, source }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { addr, advice, source }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                write!(f, "{addr} is in use by another program: stop it, or {advice}")
            }
            StartError::Bind { addr, source, .. } => write!(f, "cannot listen on {addr}: {source}"),
            StartError::Config(text) => write!(f, "{text}"),
            StartError::Store(text) => write!(f, "cannot open the store: {text}"),
            StartError::Thread(error) => write!(f, "cannot spawn a thread: {error}"),
            StartError::Signals(error) => write!(f, "cannot watch for signals: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bind { source, .. }
            | StartError::Thread(source)
            | StartError::Signals(source) => Some(source),
            StartError::Config(_) | StartError::Store(_) => None,
        }
    }
}
