//! All integration tests, in one binary so that SQLite is linked once. They talk to the real
//! server, over real sockets, on ports of its own choosing.

mod suite;
