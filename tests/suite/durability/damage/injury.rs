//! One damage to a store's file or to its log.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::suite::support::folder::store_files;
use crate::suite::support::random::Random;

/// The page size of a store.
const PAGE: usize = 8_192;

/// A description of the damage.
#[derive(Debug)]
pub struct Injury {
    pub in_wal: bool,
    what: String,
}

impl Injury {
    /// Damages the file or, with a chance of one in two, its log if there is one.
    pub fn inflict(store: &Path, random: &mut Random) -> Injury {
        let [file, wal] = store_files(store);
        let in_wal = wal.exists() && fs::metadata(&wal).unwrap().len() > 0 && random.once_in(2);
        let path = if in_wal { wal } else { file };
        let whole = fs::read(&path).unwrap();
        loop {
            let mut bytes = whole.clone();
            let what = injure(&mut bytes, random);
            // A range may have been overwritten with the same bytes.
            if bytes != whole {
                fs::write(&path, bytes).unwrap();
                return Injury { in_wal, what };
            }
        }
    }
}

impl fmt::Display for Injury {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.in_wal { "in the log beside the file" } else { "in the file" };
        write!(f, "{place}: {}", self.what)
    }
}

fn injure(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let len = bytes.len() as u64;
    let at = random.below(len) as usize;
    let page = |random: &mut Random| random.below((len / PAGE as u64).max(1)) as usize * PAGE;
    match random.below(5) {
        0 => {
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        1 => {
            let end = (at + 1 + random.below(2_000) as usize).min(bytes.len());
            bytes[at..end].fill_with(|| random.next() as u8);
            format!("bytes {at} to {end} overwritten")
        }
        2 => {
            let start = page(random);
            let end = (start + PAGE).min(bytes.len());
            bytes[start..end].fill(0);
            format!("page at byte {start} zeroed")
        }
        3 => {
            bytes.truncate(at);
            format!("cut off at byte {at} of {len}")
        }
        _ => {
            let (one, other) = (page(random), page(random));
            for byte in 0..PAGE {
                if one.max(other) + byte < bytes.len() {
                    bytes.swap(one + byte, other + byte);
                }
            }
            format!("pages at bytes {one} and {other} swapped")
        }
    }
}
