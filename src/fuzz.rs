//! What the fuzz targets in `fuzz/` call; compiled by `cargo fuzz` alone.

pub use crate::compat::coremq::check::coremq;
pub use crate::protocol::json::check::json;
pub use crate::wire::pickle::check::pickle;
pub use crate::wire::zmtp::check::zmtp;
