//! Fuzzes the JSON protocol: no panic, the same answers however the bytes are split, and the same
//! judgement as serde_json on what is a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::json(bytes));
