//! Space on the disk of a store's file: the maximum length of the log, and a reserve for a full
//! disk.
//!
//! A checkpoint needs as much space in the file as the log has taken. If the log took the last of a
//! small disk, it could never be checkpointed, and not even a message could be removed. So the log
//! stays short relative to the free space, and a spare file reserves the space of a checkpoint. On
//! a full disk the spare file is removed: takes, acks and purges continue, and puts reuse free
//! pages.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::location::{beside, leads_to, with_mode_of};
use crate::error::{Code, Error};
use crate::sync::lock;

/// The range of the log's length, in bytes, at which it is checkpointed.
const LOG_MIN: u64 = 256 * 1024;
const LOG_MAX: u64 = 16 * 1024 * 1024;

/// The log takes at most `1 / LOG_SHARE` of the free space, and of the maximum size of the store.
const LOG_SHARE: u64 = 8;

/// Space that the spare file has beyond the log's length, because one transaction may exceed that
/// length.
const TRANSACTION_BYTES: u64 = 256 * 1024;

/// A new length is used if it differs by more than this share.
const CHANGE_SHARE: u64 = 8;

const SUFFIX: &str = "-spare";

/// The disk space around a store's file.
pub struct Room {
    path: PathBuf,
    /// The maximum size of the store in bytes.
    max_bytes: u64,
    /// The length at which the log is checkpointed.
    log_bytes: AtomicU64,
    /// The spare file `PATH-spare`, while the disk is not full. The next server removes the one of
    /// a killed server.
    spare: Mutex<Option<File>>,
    full: AtomicBool,
}

impl Room {
    /// Measures the disk of an open file. Reserves nothing yet.
    pub fn new(path: &Path, max_bytes: Option<u64>) -> Room {
        let max_bytes = max_bytes.unwrap_or(u64::MAX);
        let log_bytes = log_bytes(free_bytes(path).unwrap_or(u64::MAX), max_bytes);
        Room {
            path: path.to_owned(),
            max_bytes,
            log_bytes: AtomicU64::new(log_bytes),
            spare: Mutex::new(None),
            full: AtomicBool::new(false),
        }
    }

    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Measures the disk again and resizes the spare file. Returns whether [`Room::log_bytes`] has
    /// changed.
    pub fn measure(&self) -> bool {
        let Some(free) = free_bytes(&self.path) else { return false };
        let (before, now) = (self.log_bytes(), log_bytes(free, self.max_bytes));
        if before.abs_diff(now) <= before / CHANGE_SHARE {
            return false;
        }
        let spare = lock(&self.spare);
        let resized = spare.as_ref().map_or(Ok(()), |file| resize(file, now + TRANSACTION_BYTES));
        // A longer log requires a larger reserve.
        if resized.is_err() && now > before {
            return false;
        }
        self.log_bytes.store(now, Ordering::Relaxed);
        true
    }

    /// Whether the disk is known to be full, so that the file cannot grow.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Fails with `full` while the disk is full.
    pub fn check(&self) -> Result<(), Error> {
        if !self.is_full() {
            return Ok(());
        }
        let path = self.path.display();
        let text =
            format!("the disk of {path} is full: free space on it, or take or purge messages");
        Err(Error::new(Code::Full, text))
    }

    /// Marks the disk as full and frees the spare file.
    pub fn give_up(&self) {
        self.release();
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "the disk of {} is full: puts are refused until it has space",
                self.path.display()
            );
        }
    }

    /// Removes the spare file. The last checkpoint, which SQLite runs when the file closes, can use
    /// its space.
    pub fn release(&self) {
        let Some(file) = lock(&self.spare).take() else { return };
        // Frees the space even if another program has the file open.
        let _ = file.set_len(0);
        let name = beside(&self.path, SUFFIX);
        // If the store's files were removed, the name may belong to another server's spare file.
        if leads_to(&name, &file) {
            let _ = fs::remove_file(name);
        }
    }

    /// Creates the spare file if there is space for it and for the log. Otherwise the disk is full.
    pub fn reserve(&self) {
        if let Err(error) = self.try_reserve() {
            if !self.is_full() {
                tracing::warn!("cannot reserve disk space beside {}: {error}", self.path.display());
                self.give_up();
            }
            return;
        }
        if self.full.swap(false, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::warn!("the disk of {path} has space again: puts are accepted");
        }
    }

    fn try_reserve(&self) -> io::Result<()> {
        let free = free_bytes(&self.path).unwrap_or(u64::MAX);
        let log = log_bytes(free, self.max_bytes);
        let spare = log + TRANSACTION_BYTES;
        if free < spare + log {
            let text = format!("{free} bytes are free, {} are needed", spare + log);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let file = new_spare(&self.path)?;
        let resized = resize(&file, spare);
        // Stored before the check for an error, so that `release` removes the file.
        *lock(&self.spare) = Some(file);
        resized.inspect_err(|_| self.release())?;
        self.log_bytes.store(log, Ordering::Relaxed);
        Ok(())
    }
}

fn log_bytes(free: u64, max_bytes: u64) -> u64 {
    (free.min(max_bytes) / LOG_SHARE).clamp(LOG_MIN, LOG_MAX)
}

/// Free bytes on the disk of this file; `None` if unlimited or unknown.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Creates an empty spare file.
fn new_spare(path: &Path) -> io::Result<File> {
    remove_spare(path)?;
    let mut options = File::options();
    options.write(true).create_new(true);
    with_mode_of(path, &mut options);
    options.open(beside(path, SUFFIX))
}

/// Removes the spare file of a killed server, whose space may be needed to open the store.
pub fn remove_spare(path: &Path) -> io::Result<()> {
    match fs::remove_file(beside(path, SUFFIX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Resizes the file and allocates all its bytes on the disk. Leaves the length unchanged if there
/// is no space.
fn resize(file: &File, bytes: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    if bytes <= before {
        return file.set_len(bytes);
    }
    allocate(file, before, bytes).inspect_err(|_| {
        // Shrinking cannot fail for lack of space.
        let _ = file.set_len(before);
    })
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(file, from, to),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    write_zeros(file, from, to)
}

fn write_zeros(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(from))?;
    io::copy(&mut io::repeat(0).take(to - from), &mut file)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_length_follows_the_smaller_of_disk_and_store() {
        let (kib, mib, gib) = (1 << 10, 1 << 20, 1 << 30);
        assert_eq!(log_bytes(8 * mib, mib), 256 * kib);
        assert_eq!(log_bytes(8 * mib, gib), mib);
        assert_eq!(log_bytes(0, gib), 256 * kib);
        assert_eq!(log_bytes(100 * gib, 100 * gib), 16 * mib);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn spare_file_takes_space_until_released() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        fs::write(&path, "").unwrap();
        let room = Room::new(&path, Some(8 << 20));
        room.reserve();
        let allocated = || lock(&room.spare).as_ref().map(|file| file.metadata().unwrap().blocks());
        assert!(allocated().unwrap() * 512 >= (1 << 20) + TRANSACTION_BYTES);
        assert!(!room.is_full());
        let spare = folder.path().join("queue.db-spare");
        assert!(spare.exists());
        room.give_up();
        assert!(room.is_full() && allocated().is_none() && !spare.exists());
        room.reserve();
        assert!(!room.is_full() && allocated().is_some());
        // Another server's spare file is left alone.
        fs::remove_file(&spare).unwrap();
        fs::write(&spare, "").unwrap();
        room.release();
        assert!(spare.exists());
        let file = new_spare(&path).unwrap();
        write_zeros(&file, 0, 1 << 20).unwrap();
        resize(&file, 1 << 16).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 16);
    }
}
