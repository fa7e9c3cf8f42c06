//! Room on the disk of a store's file: how long the log may become, and a reserve for a full disk.
//!
//! What is in the log needs as much room again when it moves into the file. If the log has taken the
//! last of a small disk, it can never move, and not even a message can be removed. So the log stays
//! short beside what is free, and a spare file takes the room that the log may need to move. When the
//! disk is full the spare is given up: takes, acks and purges go on, and puts reuse free pages.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::location::{beside, leads_to, with_mode_of};
use crate::error::{Code, Error};
use crate::sync::lock;

/// Bounds of the log's length in bytes at which it moves into the file.
const LOG_MIN: u64 = 256 * 1024;
const LOG_MAX: u64 = 16 * 1024 * 1024;

/// That length is at most this share of what is free, and of what the store may take.
const LOG_SHARE: u64 = 8;

/// What the spare file has beyond that length: one transaction may make the log longer.
const TRANSACTION_BYTES: u64 = 256 * 1024;

/// A changed length counts if it differs by more than this share.
const CHANGE_SHARE: u64 = 8;

/// How the spare file's name ends.
const SUFFIX: &str = "-spare";

/// What is known of the disk of a store's file.
pub struct Room {
    path: PathBuf,
    /// What the store may take, in bytes.
    max_bytes: u64,
    /// The log moves into the file when it has this many bytes.
    log_bytes: AtomicU64,
    /// The spare file `PATH-spare`, while the disk is not full. A killed server leaves it to the next.
    spare: Mutex<Option<File>>,
    full: AtomicBool,
}

impl Room {
    /// Looks at the disk of a file that is open. Nothing is reserved yet.
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

    /// Looks at the disk again; true if [`Room::log_bytes`] has changed. The spare file follows.
    pub fn measure(&self) -> bool {
        let Some(free) = free_bytes(&self.path) else { return false };
        let (before, now) = (self.log_bytes(), log_bytes(free, self.max_bytes));
        if before.abs_diff(now) <= before / CHANGE_SHARE {
            return false;
        }
        let spare = lock(&self.spare);
        let resized = spare.as_ref().map_or(Ok(()), |file| resize(file, now + TRANSACTION_BYTES));
        // The log may only become longer if there is a reserve for it.
        if resized.is_err() && now > before {
            return false;
        }
        self.log_bytes.store(now, Ordering::Relaxed);
        true
    }

    /// Whether the disk is full, as far as is known: what the store's file has is all that it gets.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Why the store takes no more, while the disk is full.
    pub fn check(&self) -> Result<(), Error> {
        if !self.is_full() {
            return Ok(());
        }
        let path = self.path.display();
        let text =
            format!("the disk of {path} is full: make room on it, or take or purge messages");
        Err(Error::new(Code::Full, text))
    }

    /// There was no room for something: the spare file is given up.
    pub fn give_up(&self) {
        self.release();
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "the disk of {} is full: puts are refused until there is room",
                self.path.display()
            );
        }
    }

    /// Without the spare file the last checkpoint, which is SQLite's own at the end, finds room.
    pub fn release(&self) {
        let Some(file) = lock(&self.spare).take() else { return };
        // Also if another program has it open.
        let _ = file.set_len(0);
        let name = beside(&self.path, SUFFIX);
        // If somebody removed this store's files, the name may be another server's by now.
        if leads_to(&name, &file) {
            let _ = fs::remove_file(name);
        }
    }

    /// Makes the spare file, if there is room for it and for the log; else the disk is full.
    pub fn reserve(&self) {
        if let Err(error) = self.try_reserve() {
            if !self.is_full() {
                tracing::warn!("cannot reserve room beside {}: {error}", self.path.display());
                self.give_up();
            }
            return;
        }
        if self.full.swap(false, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::warn!("the disk of {path} has room again: puts are accepted");
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
        // Before an error, so that it is removed.
        *lock(&self.spare) = Some(file);
        resized.inspect_err(|_| self.release())?;
        self.log_bytes.store(log, Ordering::Relaxed);
        Ok(())
    }
}

/// Gives the reserve up when it is dropped, which is to be before the store's file is closed.
pub struct Reserve(pub Arc<Room>);

impl Drop for Reserve {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn log_bytes(free: u64, max_bytes: u64) -> u64 {
    (free.min(max_bytes) / LOG_SHARE).clamp(LOG_MIN, LOG_MAX)
}

/// Bytes that are free on the disk of this file; `None` if it has no bound, or does not tell.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// An empty spare file.
fn new_spare(path: &Path) -> io::Result<File> {
    remove_spare(path)?;
    let mut options = File::options();
    options.write(true).create_new(true);
    with_mode_of(path, &mut options);
    options.open(beside(path, SUFFIX))
}

/// Gives up what a killed server has reserved: this one may need it to open the file.
pub fn remove_spare(path: &Path) -> io::Result<()> {
    match fs::remove_file(beside(path, SUFFIX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the file this long, with every byte of it on the disk; as it was if there is no room.
fn resize(file: &File, bytes: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    if bytes <= before {
        return file.set_len(bytes);
    }
    allocate(file, before, bytes).inspect_err(|_| {
        // It is less than was asked for, in any case.
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
    fn the_spare_file_takes_room_until_it_is_given_up() {
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
        // Another server's is left alone.
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
