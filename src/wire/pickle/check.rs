//! Properties that hold for any bytes read as a pickle; used by the property tests and the fuzz
//! target.
#![allow(clippy::unwrap_used)]

use serde_json::value::RawValue;

use super::{Pickle, PickleError, PickleWriter};

/// Small, so that tests cross it.
pub const MOST_BYTES: usize = 10_000;

/// Reading any bytes must not panic. A pickle with a JSON form must give valid JSON, which is the
/// same after writing and reading it as a pickle.
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
