//! A folder of a test's own, which is left behind when the test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

/// A new folder, removed with all that is in it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{process}-{number}"));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new file of this name for what a process says.
    pub fn output(&self, name: &str) -> Stdio {
        Stdio::from(File::create(self.path(name)).unwrap())
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap()).into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what was there is left in {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The files of a store that a copy needs: SQLite makes the others anew.
pub fn store_files(store: &Path) -> [PathBuf; 2] {
    let mut wal = store.as_os_str().to_owned();
    wal.push("-wal");
    [store.to_owned(), wal.into()]
}

/// Copies a store that no server has open.
pub fn copy_store(from: &Path, to: &Path) {
    for (from, to) in store_files(from).iter().zip(store_files(to)) {
        let _ = fs::remove_file(&to);
        if from.exists() {
            fs::copy(from, &to).unwrap();
        }
    }
    for side in ["-shm", "-lock"] {
        let mut name = to.as_os_str().to_owned();
        name.push(side);
        let _ = fs::remove_file(name);
    }
}
