//! Bytes as a stranger sends them to the JSON protocol: no panic, the same answer however they are
//! cut, and serde_json agrees on what is a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::json(bytes));
