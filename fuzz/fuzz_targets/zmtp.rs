//! Bytes as a stranger sends them over ZMTP: no panic, the same answer however they are cut, and no
//! memory for what is only claimed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::zmtp(bytes));
