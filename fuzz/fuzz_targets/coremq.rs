//! Fuzzes CoreMQ's frames: no panic, the same frames however the bytes are split, and answers in
//! frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::coremq(bytes));
