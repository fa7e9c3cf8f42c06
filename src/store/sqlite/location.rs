//! Checks that the store's file and its log are still at their paths.
//!
//! A file that was removed, renamed or replaced still accepts commits, but the next server does not
//! find them. So a promise requires that both paths lead to the open files. Only paths are
//! inspected: opening and closing the file again would drop SQLite's locks.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Code, Error, Result};
use crate::sync::lock;

/// The paths of the open file and its log, with the identity of each file.
pub struct Location {
    files: [OpenFile; 2],
    /// The fault that the last check found. A change is logged.
    fault: Mutex<Option<String>>,
}

impl Location {
    /// Notes the identity of the open file and its log. The next server looks for the file under
    /// `given`; SQLite keeps the log beside `path`.
    pub fn new(given: &Path, path: &Path) -> std::result::Result<Location, String> {
        // Absolute, because the working directory may change. Not canonical, because a link may change.
        let given = std::path::absolute(given).map_err(|error| error.to_string())?;
        let files = [OpenFile::new(given)?, OpenFile::new(beside(path, "-wal"))?];
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

/// An open file and its identity.
struct OpenFile {
    path: PathBuf,
    identity: Identity,
}

impl OpenFile {
    fn new(path: PathBuf) -> std::result::Result<OpenFile, String> {
        match identity(fs::metadata(&path)) {
            Ok(identity) => Ok(OpenFile { path, identity }),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn fault(&self) -> Option<String> {
        let path = self.path.display();
        match identity(fs::metadata(&self.path)) {
            Ok(identity) if identity == self.identity => None,
            Ok(_) => Some(format!("{path} has been replaced by another file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{path} has been removed or moved"))
            }
            Err(error) => Some(format!("cannot inspect {path} ({error})")),
        }
    }
}

/// Device and inode, which identify a file among all that exist at the same time. Other systems than
/// Unix neither remove nor replace open files.
type Identity = (u64, u64);

fn identity(file: io::Result<Metadata>) -> io::Result<Identity> {
    #[cfg(unix)]
    use std::os::unix::fs::MetadataExt;
    #[cfg(unix)]
    return file.map(|file| (file.dev(), file.ino()));
    #[cfg(not(unix))]
    file.map(|_| (0, 0))
}

/// Whether the path leads to this open file.
pub fn leads_to(path: &Path, file: &File) -> bool {
    let identities = (identity(fs::metadata(path)), identity(file.metadata()));
    matches!(identities, (Ok(found), Ok(opened)) if found == opened)
}

/// The path with `suffix` appended to the file's name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Gives new files at most the permissions of `path`.
#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes"))]
pub fn with_mode_of(path: &Path, options: &mut OpenOptions) {
    #[cfg(unix)]
    if let Ok(file) = fs::metadata(path) {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(file.permissions().mode() & 0o777);
    }
}
