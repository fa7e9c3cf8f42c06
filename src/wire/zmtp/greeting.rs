//! The greeting: 64 bytes by which both sides begin. A peer may send the first 10 or 11 of them and
//! wait for ours, so it is checked as it comes.

use super::Fault;

pub const GREETING_BYTES: usize = 64;

/// The parts of it: a signature, the version, the mechanism, and what is of no use without one.
const SIGNATURE_BYTES: usize = 10;
const MAJOR: usize = SIGNATURE_BYTES;
const MECHANISM: std::ops::Range<usize> = 12..32;

/// Ours: the peer falls back to our version if its own is later.
pub fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    for (to, from) in greeting.iter_mut().zip(*b"\xFF\0\0\0\0\0\0\0\x01\x7F\x03\0NULL") {
        *to = from;
    }
    greeting
}

/// Reads a greeting; how many bytes it has once it is whole.
pub fn read(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    // What lies between is padding, for peers of other versions.
    let signed = |at: usize, expected: u8| bytes.get(at).is_none_or(|byte| *byte == expected);
    if !signed(0, 0xFF) || !signed(SIGNATURE_BYTES - 1, 0x7F) {
        return Err(Fault("this is no greeting of ZMTP 3"));
    }
    if bytes.get(MAJOR).is_some_and(|major| *major < 3) {
        return Err(Fault("the peer speaks a version of ZMTP that is older than 3"));
    }
    let ours = greeting();
    let mechanism = bytes.get(MECHANISM.start..).unwrap_or_default();
    let expected = ours.get(MECHANISM).unwrap_or_default();
    if mechanism.iter().zip(expected).any(|(byte, expected)| byte != expected) {
        return Err(Fault("the peer asks for a security mechanism, and there is none"));
    }
    Ok((bytes.len() >= GREETING_BYTES).then_some(GREETING_BYTES))
}
