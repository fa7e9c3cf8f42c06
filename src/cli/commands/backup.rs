//! `dsmq backup`: copies the file of a store.

use std::io;

use super::super::args::Backup;
use super::{Failure, say};
use crate::{Config, StoreLocation, store};

const NO_FILE: &str =
    "only a store in a file has one to copy: say which, dsmq --store PATH backup DEST";

/// Copies the file and prints the size of the copy.
pub fn backup(args: &Backup, config: &Config) -> Result<bool, Failure> {
    let StoreLocation::File(from) = &config.store else {
        return Err(Failure::Store(NO_FILE.to_owned()));
    };
    let bytes = store::backup(from, &args.to).map_err(Failure::Store)?;
    let to = args.to.display();
    say(&mut io::stdout().lock(), |output| writeln!(output, "{to}: {bytes} bytes"))?;
    Ok(true)
}
