//! What the fuzz targets in `fuzz/` call; compiled by `cargo fuzz` alone.

pub use crate::protocol::coremq::check::coremq;
pub use crate::protocol::json::check::json;
pub use crate::protocol::pickle::check::pickle;
pub use crate::protocol::zmtp::check::zmtp;
