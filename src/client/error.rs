//! The errors of a client's calls.

use std::{fmt, io};

use super::{Confirmed, Taken};

/// The result of every call of a [`Client`](super::Client).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. Its text is one line that says what happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No server could be reached.
    Connect(io::Error),

    /// The connection broke, and so did the ones that replaced it. The call was not carried out.
    Disconnected(io::Error),

    /// The server does not answer. A get was not carried out.
    TimedOut,

    /// The connection was lost before the reply: the request may or may not have been carried out.
    /// It was not sent again. A put may be stored; a message may be taken, and is lost then; a
    /// lease may have ended, and its second ack is then refused with `gone`.
    Unconfirmed,

    /// The server refused the request.
    Server {
        /// The stable code, which the protocol document lists.
        code: String,
        /// What to do about it.
        text: String,
    },

    /// The server refused an earlier [`put`](super::Client::put). The call that returns this did
    /// nothing else, except that [`put_batch`](super::Client::put_batch) may have put the
    /// beginning.
    EarlierPut {
        /// The stable code, as in [`Error::Server`].
        code: String,
        /// What to do about it.
        text: String,
    },

    /// A confirmed batch failed at one message. Some messages after it that were already in flight
    /// may be stored too.
    Batch {
        /// The results of the puts before the one that failed, in order.
        stored: Vec<Confirmed>,
        /// Why that one failed.
        source: Box<Error>,
    },

    /// A batch of takes without a lease failed at one take.
    TakeBatch {
        /// The messages that were taken before, which no other client receives.
        taken: Vec<Taken>,
        /// Why that take failed.
        source: Box<Error>,
    },

    /// A message could not be converted to JSON, or not to the requested type.
    Json(serde_json::Error),

    /// The peer does not speak the protocol of dsmq.
    Protocol(String),
}

impl Error {
    /// The stable code if the server refused a request, for example `gone` for an ack after the end
    /// of its lease. The protocol document lists them.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Server { code, .. } | Error::EarlierPut { code, .. } => Some(code),
            Error::Batch { source, .. } | Error::TakeBatch { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the request had no effect, so that it may be sent again over another connection.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Error::Disconnected(_) | Error::TimedOut => true,
            Error::Server { code, .. } => code == "closing" || code == "busy",
            _ => false,
        }
    }

    /// A connection that broke or stopped answering.
    pub(super) fn lost(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut,
            _ => Error::Disconnected(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect(error) => write!(f, "cannot connect: {error}"),
            Error::Disconnected(error) => write!(f, "the connection was lost: {error}"),
            Error::TimedOut => write!(f, "the server does not answer"),
            Error::Unconfirmed => write!(
                f,
                "the connection was lost before the answer: \
                 what was asked for may or may not have been done"
            ),
            Error::Server { code, text } => write!(f, "{text} ({code})"),
            Error::EarlierPut { code, text } => {
                write!(f, "an earlier put was refused: {text} ({code})")
            }
            Error::Batch { stored, source } => {
                write!(f, "message {} of the batch: {source}", stored.len() + 1)
            }
            Error::TakeBatch { taken, source } => {
                write!(f, "take {} of the batch: {source}", taken.len() + 1)
            }
            Error::Json(error) => write!(f, "{error}"),
            Error::Protocol(text) => write!(f, "this is no dsmq server: {text}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect(error) | Error::Disconnected(error) => Some(error),
            Error::Batch { source, .. } | Error::TakeBatch { source, .. } => Some(source),
            Error::Json(error) => Some(error),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Json(error)
    }
}
