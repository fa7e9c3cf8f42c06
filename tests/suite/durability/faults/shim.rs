//! The library of `tests/faults/` under a server: built once, controlled and queried through a file
//! that it shares with the test.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The operations that can fail, by their numbers in `faults.c`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Write = 1,
    Sync = 2,
    Malloc = 4,
}

/// errno values of Linux.
pub const EIO: i64 = 5;
pub const ENOSPC: i64 = 28;

/// The words of the control file, by their positions in `faults.c`.
const KINDS: usize = 0;
const NTH: usize = 1;
const TIMES: usize = 2;
const ERRNO: usize = 3;
const LIMIT: usize = 4;
const COUNTED: [usize; 4] = [5, 6, 7, 8];
const WORDS: usize = 9;

/// Counts of one kind of operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    pub writes: i64,
    pub syncs: i64,
    pub mallocs: i64,
    /// How many of them failed by injection.
    pub injected: i64,
}

/// A folder for a store, with control over the operations on its files.
pub struct Shim {
    home: PathBuf,
    control: File,
    keeps: Cell<bool>,
}

impl Shim {
    /// Creates a new folder.
    pub fn new(name: &str) -> Shim {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = home.join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(home.join("store")).unwrap();
        let home = home.canonicalize().unwrap();
        fs::write(home.join("control"), [0; 8 * WORDS]).unwrap();
        let control = File::options().read(true).write(true).open(home.join("control")).unwrap();
        Shim { home, control, keeps: Cell::new(false) }
    }

    /// The watched folder.
    pub fn folder(&self) -> PathBuf {
        self.home.join("store")
    }

    pub fn journal(&self) -> PathBuf {
        self.home.join("journal")
    }

    /// A path outside the watched folder, for other files of the test.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Preloads the library.
    pub fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("FAULTS_DIR", self.folder())
            .env("FAULTS_CONTROL", self.home.join("control"))
            .env("FAULTS_MALLOC", allocators())
    }

    /// Preloads the library and records every change of the folder in the journal.
    pub fn journalled<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.under(command).env("FAULTS_JOURNAL", self.journal())
    }

    /// Fails the nth operation from now on, and the next ones up to `times` in all.
    pub fn fail(&self, kind: Kind, nth: i64, times: i64, errno: i64) {
        self.clear();
        self.set(NTH, nth);
        self.set(TIMES, times);
        self.set(ERRNO, errno);
        self.set(KINDS, kind as i64);
    }

    /// Limits the size of files to `bytes`; 0 removes the limit.
    pub fn limit(&self, bytes: i64) {
        self.set(LIMIT, bytes);
    }

    /// Stops all failures.
    pub fn clear(&self) {
        self.set(KINDS, 0);
        self.set(LIMIT, 0);
    }

    /// Keeps the folder for inspection.
    pub fn keep(&self) {
        self.keeps.set(true);
    }

    pub fn counts(&self) -> Counts {
        let [writes, syncs, mallocs, injected] = COUNTED.map(|word| {
            let mut bytes = [0; 8];
            self.control.read_exact_at(&mut bytes, 8 * word as u64).unwrap();
            i64::from_ne_bytes(bytes)
        });
        Counts { writes, syncs, mallocs, injected }
    }

    /// Writes a word of the control file, which the server has mapped.
    fn set(&self, word: usize, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), 8 * word as u64).unwrap();
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if self.keeps.get() || std::thread::panicking() {
            println!("its files are kept in {}", self.home.display());
        } else {
            fs::remove_dir_all(&self.home).unwrap();
        }
    }
}

/// Compiles the library, once in each run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let sources = ["faults.c", "files.c"]
            .map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(file));
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        // Another run may be using the present library, so it is replaced and not overwritten.
        let fresh = library.with_extension(format!("so.{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
        let status = cc.arg(&fresh).args(sources).status();
        assert!(status.unwrap().success(), "{cc:?}");
        fs::rename(&fresh, &library).unwrap();
        library
    })
}

/// The addresses of SQLite's allocation functions in the executable, for FAULTS_MALLOC.
fn allocators() -> &'static str {
    static ALLOCATORS: OnceLock<String> = OnceLock::new();
    ALLOCATORS.get_or_init(|| {
        let nm = Command::new("nm").args(["-S", env!("CARGO_BIN_EXE_dsmq")]).output().unwrap();
        let symbols = String::from_utf8(nm.stdout).unwrap();
        let ranges = ["sqlite3MemMalloc", "sqlite3MemRealloc"].map(|function| {
            let line = symbols.lines().find(|line| line.split(' ').nth(3) == Some(function));
            let line = line.unwrap_or_else(|| panic!("nm does not know {function}: stripped?"));
            let mut numbers = line.split(' ').map(|number| u64::from_str_radix(number, 16));
            let (low, size) = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
            format!("{low:x}-{:x}", low + size)
        });
        ranges.join(",")
    })
}
