//! A copy of a file as of one moment, made beside whoever writes to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::file;
use super::location::with_mode_of;

/// Copies a store's file with all that is committed in it, and returns the copy's size in bytes.
/// Under its name the copy is there only once it is whole and on disk.
pub fn backup(from: &Path, to: &Path) -> Result<u64, String> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!("{}: there is no folder {}", to.display(), folder.display()));
    }
    if to.exists() || to.is_symlink() {
        return Err(format!("{}: it is there already", to.display()));
    }
    let tables = file::open_to_read(from)?;
    let mut partial = to.as_os_str().to_owned();
    // A name of its own: others may be copying to the same place, and what they have is theirs.
    partial.push(format!("-partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let said = |error: String| format!("{}: {error}", to.display());
    let made = make(from, &partial).map_err(|error| error.to_string());
    let copied = made.and_then(|()| copy(tables.sqlite(), &partial)).and_then(|()| {
        let renamed = sync(&partial).and_then(|()| fs::rename(&partial, to));
        renamed.and_then(|()| sync_folder(to)).map_err(|error| error.to_string())
    });
    if let Err(error) = copied {
        let _ = fs::remove_file(&partial);
        return Err(said(error));
    }
    fs::metadata(to).map(|file| file.len()).map_err(|error| said(error.to_string()))
}

/// Makes the copy, empty and with the permissions of its store: what only some may read stays so.
fn make(from: &Path, partial: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    with_mode_of(from, &mut options);
    let file = options.open(partial)?;
    // The umask may have taken some away.
    file.set_permissions(fs::metadata(from)?.permissions())
}

/// All pages in one step: a backup that pauses begins anew when somebody writes meanwhile.
fn copy(from: &Connection, partial: &Path) -> Result<(), String> {
    let said = |error: rusqlite::Error| file::explain(&error);
    let mut to = Connection::open(partial).map_err(said)?;
    let backup = Backup::new(from, &mut to).map_err(said)?;
    match backup.step(-1).map_err(said)? {
        StepResult::Done => Ok(()),
        _ => Err("another program is in the way: try again".to_owned()),
    }
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::options().write(true).open(path)?.sync_all()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
