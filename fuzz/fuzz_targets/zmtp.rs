//! Fuzzes ZMTP: no panic, the same answers however the bytes are split, and no memory for lengths
//! that are only claimed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::zmtp(bytes));
