//! Fuzzes the pickle reader: no panic, valid JSON, and the same JSON after pickling it again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::pickle(bytes));
