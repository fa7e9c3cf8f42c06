//! The servers as they keep what they are told in files; the folder of these files; and the disk
//! that the folder is on, without which no figure of theirs says much.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::contenders::{Contender, HOST, succeed, told_where};
use crate::measure::{Result, median, says};

/// Bytes that are synced to measure a sync: about what a commit of a few messages writes.
const SYNC_BYTES: usize = 8 * 1024;
const SYNCS: u64 = 200;

/// A folder of one server's files, on the disk of the build, which goes when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Result<Folder> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = parent.join(format!("files-{}-{number}", process::id()));
        fs::create_dir_all(&path)?;
        let folder = Folder(path);
        if file_system(&folder.0) == "tmpfs" {
            return Err(format!("{} is in memory: build on a disk", parent.display()).into());
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// dsmq's file.
    pub fn store(&self) -> PathBuf {
        self.0.join("dsmq.db")
    }

    /// Bytes of dsmq's file, and of its write-ahead log.
    pub fn store_bytes(&self) -> (u64, u64) {
        let bytes = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        (bytes(self.store()), bytes(self.0.join("dsmq.db-wal")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Files that remain are under `target`.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Contender {
    /// dsmq with its file in this folder, or in memory where there is none.
    pub fn dsmq_in(folder: Option<&Folder>, flags: &[&str]) -> Result<Contender> {
        let store = folder.map_or("memory".into(), |folder| folder.store().display().to_string());
        Contender::dsmq_with(&[&["--store", &store], flags].concat())
    }

    /// Redis that syncs its log before it answers, and is not interrupted to write that anew.
    pub fn redis_in(folder: &Folder) -> Result<Contender> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", HOST, "--save", "", "--dir"]).arg(folder.path());
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        told_where(&mut command, |command, port| command.args(["--port", &port.to_string()]))
            .map_err(|error| format!("redis-server ({error}): apt-get install redis-server").into())
    }

    /// beanstalkd that syncs its log before it answers.
    pub fn beanstalkd_in(folder: &Folder) -> Result<Contender> {
        let mut command = Command::new("beanstalkd");
        command.args(["-l", HOST, "-f0", "-b"]).arg(folder.path());
        told_where(&mut command, |command, port| command.args(["-p", &port.to_string()]))
            .map_err(|error| format!("beanstalkd ({error}): apt-get install beanstalkd").into())
    }

    /// NATS with JetStream in files, and whether it syncs them before it answers: versions before
    /// 2.10 cannot be told to, and sync once a minute or less.
    pub fn nats_in(folder: &Folder) -> Result<(Contender, bool)> {
        let config = folder.path().join("nats.conf");
        let syncing = "sync_interval: always";
        let content = |sync: &str| {
            let store = folder.path().display();
            format!("jetstream {{ store_dir: \"{store}\", {sync} }}\nping_interval: \"10m\"\n")
        };
        fs::write(&config, content(syncing))?;
        let syncs = succeed(Command::new("nats-server").arg("-t").arg("-c").arg(&config)).is_ok();
        if !syncs {
            fs::write(&config, content(""))?;
        }
        let mut command = Command::new("nats-server");
        command.args(["-a", HOST, "-c"]).arg(&config).stderr(Stdio::null());
        told_where(&mut command, |command, port| command.args(["-p", &port.to_string()]))
            .map(|server| (server, syncs))
            .map_err(|error| format!("nats-server ({error}): apt-get install nats-server").into())
    }
}

/// Which file system the files are on, and how long it takes to sync what was overwritten, as a log
/// that is used again is, and what was appended.
pub fn disk() -> Result<String> {
    let folder = Folder::new()?;
    let file = File::create(folder.path().join("sync"))?;
    let (appending, overwriting) = (sync_micros(&file)?, sync_micros(&file)?);
    let shown = |micros: Vec<f64>| {
        let longest = micros.iter().copied().fold(0.0, f64::max);
        format!("{:.0} µs (at most {longest:.0})", median(micros.into_iter()))
    };
    Ok(format!(
        "{}, median of {SYNCS} syncs: {} behind overwriting 8 KiB, {} behind appending it",
        file_system(folder.path()),
        shown(overwriting),
        shown(appending),
    ))
}

/// For each sync of a block, of which the file gets one behind the other from its beginning on.
fn sync_micros(file: &File) -> Result<Vec<f64>> {
    let block = [b'x'; SYNC_BYTES];
    (0..SYNCS)
        .map(|number| {
            let start = Instant::now();
            file.write_all_at(&block, number * SYNC_BYTES as u64)?;
            file.sync_data()?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
        .collect()
}

/// Has the system forget what it holds in memory of a file.
pub fn forget(file: &Path) -> Result<()> {
    File::open(file)?.sync_all()?;
    let argument = format!("if={}", file.display());
    succeed(Command::new("dd").args([argument.as_str(), "iflag=nocache", "count=0"]))
}

fn file_system(path: &Path) -> String {
    let path = path.display().to_string();
    let table = says("df", &["--output=fstype", &path]);
    table.lines().last().unwrap_or_default().trim().to_owned()
}
