//! Bytes as a stranger calls them a pickle: no panic, JSON that is JSON, and the same when it is
//! pickled again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dsmq::fuzz::pickle(bytes));
