//! Bytes as a stranger sends them to CoreMQ's address: no panic, the same frames however they are
//! cut, and frames for an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::coremq(bytes));
