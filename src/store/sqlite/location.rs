//! Whether the store's file and its log are still where they were opened.
//!
//! A file that was removed, renamed or replaced takes commits as before, but the next server does
//! not find them. So nothing is promised unless both paths still lead to the open files. They are
//! looked at by path alone: to open and close the file again would drop SQLite's locks on it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Code, Error, Result};
use crate::sync::lock;

/// The paths of an open file and its log, and what they led to when they were opened.
pub struct Location {
    files: Vec<OpenFile>,
    /// What is wrong, as the last look found it; it is logged when this changes.
    fault: Mutex<Option<String>>,
}

impl Location {
    /// Looks at a file that is open, and whose log is. `given` is the name by which the next server
    /// will look for the file, `path` the name beside which SQLite keeps its log.
    pub fn new(given: &Path, path: &Path) -> std::result::Result<Location, String> {
        let files = open_files(given, path)?;
        Ok(Location { files, fault: Mutex::new(None) })
    }

    /// `store_failed` with the reason, unless both files are where they were.
    pub fn check(&self) -> Result<()> {
        let found = self.files.iter().find_map(OpenFile::fault);
        let mut fault = lock(&self.fault);
        if *fault != found {
            match &found {
                Some(why) => tracing::error!("{why}: changes are refused until it is back"),
                None => tracing::warn!("the store's file is back: changes are accepted again"),
            }
            fault.clone_from(&found);
        }
        found.map_or(Ok(()), |why| {
            let text = format!("{why}: nothing can be stored until it is back");
            Err(Error::new(Code::StoreFailed, text))
        })
    }

    /// Whether the last look found a file elsewhere.
    pub fn is_lost(&self) -> bool {
        lock(&self.fault).is_some()
    }
}

impl Drop for Location {
    /// When the store is closed.
    fn drop(&mut self) {
        if let Some(why) = self.files.iter().find_map(OpenFile::fault) {
            tracing::error!("the store is closed, and {why}: what it held may be lost");
        }
    }
}

#[cfg(unix)]
fn open_files(given: &Path, path: &Path) -> std::result::Result<Vec<OpenFile>, String> {
    // The server may change its working directory; a link may be changed to lead elsewhere.
    let given = std::path::absolute(given).map_err(|error| error.to_string())?;
    let files = [given, beside(path, "-wal")];
    let opened = files.into_iter().map(|path| match Identity::of(&path) {
        Ok(identity) => Ok(OpenFile { path, identity }),
        Err(error) => Err(format!("{}: {error}", path.display())),
    });
    opened.collect()
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn open_files(_: &Path, _: &Path) -> std::result::Result<Vec<OpenFile>, String> {
    Ok(Vec::new())
}

/// A file as it was when it was opened.
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
            Ok(_) => Some(format!("{path} is not the file that was opened: it has been replaced")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("{path} has been removed or moved"))
            }
            Err(error) => Some(format!("{path} cannot be reached ({error})")),
        }
    }

    #[cfg(not(unix))]
    fn fault(&self) -> Option<String> {
        None
    }
}

/// What tells one file from all others that there are at the same time.
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

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
pub fn leads_to(_: &Path, _: &std::fs::File) -> bool {
    true
}

/// The file beside `path` whose name ends in `suffix`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Files made with these options are for the same people as `path`, or for fewer.
#[cfg(unix)]
pub fn with_mode_of(path: &Path, options: &mut OpenOptions) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Ok(file) = std::fs::metadata(path) {
        options.mode(file.permissions().mode() & 0o777);
    }
}

#[cfg(not(unix))]
pub fn with_mode_of(_: &Path, _: &mut OpenOptions) {}
