//! The frozen contract: the real server against the files of tests/contract/. Its README says what
//! each file freezes and how a file may change.

#[cfg(target_os = "linux")]
mod addresses;
mod codes;
mod flags;
mod golden;
mod metrics;
mod replay;
mod routes;
mod schema;
mod wire_texts;
