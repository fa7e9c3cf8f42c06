//! Checks that the store's file and its log are still at their paths.
//!
//! A file that was removed, renamed or replaced still accepts commits, but the next server does not
//! find them. So a promise requires that both paths lead to the open files. Only paths are
//! inspected: opening and closing the file again would drop SQLite's locks.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Code, Error, Result};
use crate::sync::lock;

/// The paths of the open file and its log, with the identity of each file.
pub struct Location {
    files: Vec<OpenFile>,
    /// The fault that the last check found. A change is logged.
    fault: Mutex<Option<String>>,
}

impl Location {
    /// Notes the identity of the open file and its log. The next server looks for the file under
    /// `given`; SQLite keeps the log beside `path`.
    pub fn new(given: &Path, path: &Path) -> std::result::Result<Location, String> {
        let files = open_files(given, path)?;
        Ok(Location { files, fault: Mutex::new(None) })
    }

    /// Fails with `store_failed` unless both files are in place.
    pub fn check(&self) -> Result<()> {
        let found = self.files.iter().find_map(OpenFile::fault);
        let mut fault = lock(&self.fault);
        if *fault != found {
            match &found {
                Some(why) => tracing::error!("{why}: changes are refused until it is back"),
                None => tracing::warn!("the store's files are back: changes are accepted again"),
            }
            fault.clone_from(&found);
        }
        found.map_or(Ok(()), |why| {
            let text = format!("{why}: nothing can be stored until it is back");
            Err(Error::new(Code::StoreFailed, text))
        })
    }

    /// Whether the last check found a fault.
    pub fn is_lost(&self) -> bool {
        lock(&self.fault).is_some()
    }
}

impl Drop for Location {
    /// Logs a loss at the end, when the store closes.
    fn drop(&mut self) {
        if let Some(why) = self.files.iter().find_map(OpenFile::fault) {
            tracing::error!("the store is closed, and {why}: its messages may be lost");
        }
    }
}

#[cfg(unix)]
fn open_files(given: &Path, path: &Path) -> std::result::Result<Vec<OpenFile>, String> {
    // Absolute, because the working directory may change. Not canonical, because a link may change.
    let given = std::path::absolute(given).map_err(|error| error.to_string())?;
    let files = [given, beside(path, "-wal")];
    let opened = files.into_iter().map(|path| match Identity::of(&path) {
        Ok(identity) => Ok(OpenFile { path, identity }),
        Err(error) => Err(format!("{}: {error}", path.display())),
    });
    opened.collect()
}

/// Other systems do not remove open files.
#[cfg(not(unix))]
fn open_files(_: &Path, _: &Path) -> std::result::Result<Vec<OpenFile>, String> {
    Ok(Vec::new())
}

/// An open file and its identity.
struct OpenFile {
    #[cfg(unix)]
    path: std::path::PathBuf,
    #[cfg(unix)]
    identity: Identity,
}

impl OpenFile {
    #[cfg(unix)]
    fn fault(&self) -> Option<String> {
        let path = self.path.display();
        match Identity::of(&self.path) {
            Ok(identity) if identity == self.identity => None,
            Ok(_) => Some(format!("{path} has been replaced by another file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("{path} has been removed or moved"))
            }
            Err(error) => Some(format!("cannot inspect {path} ({error})")),
        }
    }

    #[cfg(not(unix))]
    fn fault(&self) -> Option<String> {
        None
    }
}

/// Identifies a file among all that exist at the same time.
#[cfg(unix)]
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
impl Identity {
    fn of(path: &Path) -> std::io::Result<Identity> {
        std::fs::metadata(path).map(Identity::from)
    }
}

#[cfg(unix)]
impl From<std::fs::Metadata> for Identity {
    fn from(file: std::fs::Metadata) -> Identity {
        use std::os::unix::fs::MetadataExt;
        Identity { device: file.dev(), inode: file.ino() }
    }
}

/// Whether the path leads to this open file.
#[cfg(unix)]
pub fn leads_to(path: &Path, file: &std::fs::File) -> bool {
    let identity = file.metadata().map(Identity::from).ok();
    identity.is_some() && Identity::of(path).ok() == identity
}

/// Other systems do not remove open files.
#[cfg(not(unix))]
pub fn leads_to(_: &Path, _: &std::fs::File) -> bool {
    true
}

/// The path with `suffix` appended to the file's name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Gives new files at most the permissions of `path`.
#[cfg(unix)]
pub fn with_mode_of(path: &Path, options: &mut OpenOptions) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Ok(file) = std::fs::metadata(path) {
        options.mode(file.permissions().mode() & 0o777);
    }
}

#[cfg(not(unix))]
pub fn with_mode_of(_: &Path, _: &mut OpenOptions) {}
