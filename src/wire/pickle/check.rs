//! What must hold of any bytes that a stranger calls a pickle: no panic, and JSON that is JSON.
#![allow(clippy::unwrap_used)]

use serde_json::value::RawValue;

use super::{Pickle, PickleError, PickleWriter};

/// Small, so that it is crossed.
pub const MOST_BYTES: usize = 10_000;

/// Reads bytes; what has JSON is written as a pickle again, which reads as the same.
pub fn pickle(bytes: &[u8]) {
    let Ok(json) = read(bytes) else { return };
    assert!(json.len() <= MOST_BYTES, "{} bytes", json.len());
    let text = str::from_utf8(&json).unwrap();
    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text}");
    let mut again = PickleWriter::new();
    again.json(&json);
    assert_eq!(read(&again.end()).map(|json| String::from_utf8(json).unwrap()), Ok(text.into()));
}

pub fn read(bytes: &[u8]) -> Result<Vec<u8>, PickleError> {
    let pickle = Pickle::read(bytes)?;
    pickle.json(pickle.root(), MOST_BYTES)
}
