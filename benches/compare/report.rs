//! The printed report: one line for the machine, and a table in Markdown.

use std::fmt;
use std::fs;

use crate::files;
use crate::measure::{Result, median, says};

/// The table's head.
pub const HEAD: &str = "\
| work | dsmq | against | | ratio (spread) | target | reached |
| --- | ---: | --- | ---: | --- | --- | --- |";

/// What must be reached.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// A line of the table.
pub struct Row {
    pub work: String,
    pub against: &'static str,
    pub unit: Unit,
    /// dsmq and the other, measured one right after the other.
    pub pairs: Vec<(f64, f64)>,
    /// None: for information.
    pub target: Option<Target>,
    /// What another judge says of the other server.
    pub cross_check: Option<f64>,
}

/// What the figures of a row are.
#[derive(Clone, Copy)]
pub enum Unit {
    PerSecond,
    BytesEach,
    MiB,
    Micros,
    Seconds,
}

impl Row {
    /// Says so.
    pub fn on_one_core(mut self) -> Row {
        self.work += ", all on one core";
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = median(self.pairs.iter().map(|pair| pair.0));
        let theirs = median(self.pairs.iter().map(|pair| pair.1));
        let ratios = || self.pairs.iter().map(|(ours, theirs)| ours / theirs);
        let (ratio, least, most) = (
            median(ratios()),
            ratios().fold(f64::INFINITY, f64::min),
            ratios().fold(f64::NEG_INFINITY, f64::max),
        );
        let yes = |reached: bool| if reached { "yes" } else { "**no**" };
        let (target, reached) = match self.target {
            Some(Target::AtLeast(target)) => (format!("at least {target}"), yes(ratio >= target)),
            Some(Target::AtMost(target)) => (format!("at most {target}"), yes(ratio <= target)),
            None => ("for information".to_owned(), ""),
        };
        write!(
            f,
            "| {} | {} | {} | {} | {ratio:.2} ({least:.2} to {most:.2})",
            self.work,
            self.unit.show(ours),
            self.against,
            self.unit.show(theirs)
        )?;
        // The load generator must not be what makes the other slow.
        if let Some(rate) = self.cross_check.filter(|rate| *rate > theirs) {
            let ratio = ours / rate;
            write!(f, "; {ratio:.2} of redis-benchmark's {}", self.unit.show(rate))?;
        }
        write!(f, " | {target} | {reached} |")
    }
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond => format!("{}/s", thousands(value)),
            Unit::BytesEach => format!("{value:.0} B each"),
            Unit::MiB => format!("{value:.0} MiB"),
            Unit::Micros => format!("{value:.0} µs"),
            Unit::Seconds => format!("{value:.3} s"),
        }
    }
}

pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// The machine, the versions and the date of the measurement.
pub fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("0 kB");
    let kib: f64 = total.trim().trim_end_matches(" kB").parse()?;
    // Others at work on the machine would be seen here.
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{}: {}, {} cores, {:.0} GiB, Linux {}, load average {} at the start; dsmq {} ({}), {}, {}, {}, {}, {}; {}.",
        says("date", &["-u", "+%Y-%m-%d"]),
        model.trim_start_matches([' ', '\t', ':']),
        std::thread::available_parallelism()?,
        kib / 1024.0 / 1024.0,
        says("uname", &["-r"]),
        load.split(' ').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
        says("git", &["describe", "--always", "--dirty"]),
        says("redis-server", &["--version"]).split(" sha=").next().unwrap_or_default(),
        says("beanstalkd", &["-v"]),
        says("nats-server", &["--version"]),
        says("python3", &["--version"]),
        says("rustc", &["--version"]),
        files::disk()?,
    ))
}
