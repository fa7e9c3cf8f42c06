//! What every row needs: how much is measured, of which messages, and the middle of it. It uses no other
//! module here.

use std::error::Error;
use std::process::Command;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bytes in every message.
pub const SIZE: usize = 100;
pub const TOPIC: &str = "compare";

/// How long to measure.
pub struct Effort {
    pub pairs: u32,
    /// Runs have so many times fewer requests.
    pub shorter: u64,
    /// Messages in a file that is full.
    pub deep: u64,
}

pub const FULL: Effort = Effort { pairs: 7, shorter: 1, deep: 10_000_000 };
pub const QUICK: Effort = Effort { pairs: 3, shorter: 4, deep: 200_000 };

impl Effort {
    /// Measures dsmq and the other in turn.
    pub fn alternate(
        &self,
        mut ours: impl FnMut() -> Result<f64>,
        mut theirs: impl FnMut() -> Result<f64>,
    ) -> Result<Vec<(f64, f64)>> {
        (0..self.pairs).map(|_| Ok((ours()?, theirs()?))).collect()
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// What this program prints.
pub fn says(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| format!("{program}: unknown"))
}
