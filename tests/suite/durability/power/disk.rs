//! The possible states of a disk after a power cut: everything that was synced, and a random part
//! of the other writes, each whole, missing, or torn between sectors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::suite::support::random::Random;

/// The unit, in bytes, that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The files of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    pub fn read(folder: &Path) -> Disk {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        Disk { files: entries.map(read).collect() }
    }

    /// Makes the folder hold exactly these files.
    pub fn write(&self, folder: &Path) {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// A record of the journal of `faults.c`, and its end.
#[derive(Debug)]
pub struct Record {
    pub end: u64,
    kind: u8,
    name: String,
    position: u64,
    data: Vec<u8>,
}

impl Record {
    /// Whether this is a write to the file.
    pub fn is_write(&self, name: &str) -> bool {
        self.kind == b'W' && self.name == name
    }

    pub fn is_failed_sync(&self) -> bool {
        self.kind == b'F'
    }

    /// Whether this is a sync of the file, successful or not.
    pub fn is_sync(&self, name: &str) -> bool {
        matches!(self.kind, b'S' | b'F') && self.name == name
    }
}

/// Whether a later sync covers the last write to the file.
pub fn is_synced(records: &[Record], name: &str) -> bool {
    let written = records.iter().rfind(|record| record.is_write(name));
    let covers = |sync: &Record, end| sync.kind == b'S' && sync.position >= end;
    written.is_none_or(|last| {
        records.iter().any(|record| record.is_sync(name) && covers(record, last.end))
    })
}

/// The records of a journal.
pub fn records(journal: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < journal.len() {
        let number = |from: usize, bytes: usize| {
            let mut number = [0; 8];
            number[..bytes].copy_from_slice(&journal[at + from..at + from + bytes]);
            u64::from_le_bytes(number)
        };
        let name_at = at + 24;
        let data_at = name_at + number(4, 4) as usize;
        let (kind, position) = (number(0, 4) as u8, number(8, 8));
        let end = data_at + number(16, 8) as usize;
        // A killed server may leave the last record incomplete.
        if end > journal.len() {
            break;
        }
        let name = String::from_utf8(journal[name_at..data_at].to_vec()).unwrap();
        let data = journal[data_at..end].to_vec();
        records.push(Record { end: end as u64, kind, name, position, data });
        at = end;
    }
    records
}

/// Counts of the writes that were not synced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chance {
    pub kept: usize,
    pub dropped: usize,
    pub torn: usize,
}

/// A change that may not be on the disk.
struct Pending<T> {
    end: u64,
    change: T,
    synced: bool,
    /// A sync of it failed: later syncs do not cover it.
    doubtful: bool,
}

enum Change<'a> {
    Write(usize, &'a [u8]),
    Truncate(usize),
}

enum Entry<'a> {
    Made(&'a str, usize),
    Unlinked(&'a str),
    Renamed(&'a str, &'a str),
}

/// A file, independent of its name.
#[derive(Default)]
struct File<'a> {
    before: &'a [u8],
    changes: Vec<Pending<Change<'a>>>,
}

/// The changes since a moment at which everything was on the disk.
#[derive(Default)]
pub struct History<'a> {
    files: Vec<File<'a>>,
    /// The names as the server sees them.
    names: BTreeMap<&'a str, usize>,
    /// The names that are certainly on the disk.
    names_before: BTreeMap<&'a str, usize>,
    entries: Vec<Pending<Entry<'a>>>,
}

impl<'a> History<'a> {
    /// The changes up to `cut`, a length of the journal.
    pub fn new(start: &'a Disk, records: &'a [Record], cut: u64) -> History<'a> {
        let mut history = History::default();
        for (number, (name, bytes)) in start.files.iter().enumerate() {
            history.files.push(File { before: bytes, changes: Vec::new() });
            history.names.insert(name, number);
        }
        history.names_before = history.names.clone();
        for record in records.iter().take_while(|record| record.end <= cut) {
            history.add(record);
        }
        history
    }

    fn add(&mut self, record: &'a Record) {
        let (name, position) = (record.name.as_str(), record.position as usize);
        match record.kind {
            b'W' => self.change(record, Change::Write(position, &record.data)),
            b'T' => self.change(record, Change::Truncate(position)),
            b'C' => {
                self.names.insert(name, self.files.len());
                self.entry(record, Entry::Made(name, self.files.len()));
                self.files.push(File::default());
            }
            b'U' => {
                self.names.remove(name).unwrap();
                self.entry(record, Entry::Unlinked(name));
            }
            b'R' => {
                let file = self.names.remove(name).unwrap();
                let new = str::from_utf8(&record.data).unwrap();
                self.names.insert(new, file);
                self.entry(record, Entry::Renamed(name, new));
            }
            b'S' | b'F' if name.is_empty() => {
                sync(&mut self.entries, record.position, record.kind == b'S');
            }
            b'S' | b'F' => {
                let file = self.names[name];
                sync(&mut self.files[file].changes, record.position, record.kind == b'S');
            }
            _ => panic!("not modelled: {} of {name}", String::from_utf8_lossy(&record.data)),
        }
    }

    fn change(&mut self, record: &Record, change: Change<'a>) {
        let file = &mut self.files[self.names[record.name.as_str()]];
        file.changes.push(pending(record, change));
    }

    fn entry(&mut self, record: &Record, entry: Entry<'a>) {
        self.entries.push(pending(record, entry));
    }

    /// One of the possible disks.
    pub fn disk(&self, random: &mut Random) -> (Disk, Chance) {
        let mut chance = Chance::default();
        let files = self
            .names_left(random)
            .into_iter()
            .map(|(name, file)| (name.to_owned(), self.files[file].left(random, &mut chance)));
        (Disk { files: files.collect() }, chance)
    }

    /// File systems keep the order of changes to a folder: a prefix of them is on the disk.
    fn names_left(&self, random: &mut Random) -> BTreeMap<&'a str, usize> {
        let synced = self.entries.iter().rposition(|entry| entry.synced).map_or(0, |at| at + 1);
        let more = random.below((self.entries.len() - synced) as u64 + 1) as usize;
        let mut names = self.names_before.clone();
        for entry in &self.entries[..synced + more] {
            match entry.change {
                Entry::Made(name, file) => {
                    names.insert(name, file);
                }
                Entry::Unlinked(name) => {
                    names.remove(name);
                }
                Entry::Renamed(old, new) => {
                    if let Some(file) = names.remove(old) {
                        names.insert(new, file);
                    }
                }
            }
        }
        names
    }
}

impl File<'_> {
    fn left(&self, random: &mut Random, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.before.to_vec();
        // The share of written sectors varies from nearly none to nearly all.
        let written = random.below(101);
        for pending in &self.changes {
            match pending.change {
                Change::Truncate(size) => {
                    if pending.synced || random.below(100) < written {
                        bytes.resize(size, 0);
                    }
                }
                Change::Write(at, data) if pending.synced => write(&mut bytes, at, data),
                Change::Write(at, data) => {
                    if random.below(100) < written {
                        chance.kept += 1;
                        write(&mut bytes, at, data);
                    } else if random.below(2) == 0 {
                        chance.dropped += 1;
                    } else {
                        chance.torn += 1;
                        for (at, sector) in sectors(at, data) {
                            if random.below(2) == 0 {
                                write(&mut bytes, at, sector);
                            }
                        }
                    }
                }
            }
        }
        bytes
    }
}

fn pending<T>(record: &Record, change: T) -> Pending<T> {
    Pending { end: record.end, change, synced: false, doubtful: false }
}

fn sync<T>(pending: &mut [Pending<T>], covered: u64, succeeded: bool) {
    for one in pending.iter_mut().filter(|one| one.end <= covered && !one.synced) {
        one.synced = succeeded && !one.doubtful;
        one.doubtful |= !succeeded;
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

/// Splits the data at the sector borders of the file.
fn sectors(at: usize, data: &[u8]) -> Vec<(usize, &[u8])> {
    let first = (SECTOR - at % SECTOR).min(data.len());
    let (head, rest) = data.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate().map(|(n, part)| (at + first + n * SECTOR, part));
    std::iter::once((at, head)).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(end: u64, kind: u8, name: &str, position: u64, data: &[u8]) -> Record {
        Record { end, kind, name: name.to_owned(), position, data: data.to_vec() }
    }

    /// The file's contents in a thousand of the possible disks.
    fn contents(records: &[Record], cut: u64) -> Vec<Option<Vec<u8>>> {
        let start = Disk::default();
        let history = History::new(&start, records, cut);
        let mut random = Random(7);
        let mut all: Vec<_> =
            (0..1000).map(|_| history.disk(&mut random).0.files.remove("f")).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn synced_writes_survive_and_others_may() {
        let journal = [
            record(1, b'C', "f", 0, b""),
            record(2, b'W', "f", 0, b"one"),
            record(3, b'S', "f", 2, b""),
            record(4, b'S', "", 3, b""),
            record(5, b'W', "f", 3, b"two"),
            record(6, b'S', "f", 4, b""),
        ];
        let (missing, one) = (None, Some(b"one".to_vec()));
        let (empty, both) = (Some(Vec::new()), Some(b"onetwo".to_vec()));
        assert_eq!(contents(&journal, 0), vec![missing.clone()]);
        assert_eq!(contents(&journal, 2), [missing.clone(), empty, one.clone()]);
        assert_eq!(contents(&journal, 3), [missing, one.clone()]);
        assert_eq!(contents(&journal, 4), vec![one.clone()]);
        // The last sync began before the second write, so it does not cover it.
        assert_eq!(contents(&journal, 6), [one, both]);
    }

    #[test]
    fn writes_are_torn_only_between_sectors() {
        let journal = [
            record(1, b'C', "f", 0, b""),
            record(2, b'T', "f", 1024, b""),
            record(3, b'S', "f", 2, b""),
            record(4, b'S', "", 3, b""),
            record(5, b'W', "f", 510, b"aabb"),
        ];
        let middles = contents(&journal, 5).into_iter().map(|all| all.unwrap()[510..514].to_vec());
        let expected: [&[u8]; 4] = [b"\0\0\0\0", b"\0\0bb", b"aa\0\0", b"aabb"];
        assert_eq!(middles.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn later_sync_does_not_save_data_of_a_failed_one() {
        let journal = [
            record(1, b'C', "f", 0, b""),
            record(2, b'S', "", 1, b""),
            record(3, b'W', "f", 0, b"lost"),
            record(4, b'F', "f", 3, b""),
            record(5, b'W', "f", 0, b"kept"),
            record(6, b'S', "f", 5, b""),
        ];
        assert_eq!(contents(&journal, 6), [Some(b"kept".to_vec())]);
        assert_eq!(contents(&journal[..4], 4).len(), 2);
        let without = [record(1, b'C', "f", 0, b""), record(2, b'S', "", 1, b"")];
        let lost = [record(3, b'W', "f", 0, b"lost"), record(4, b'F', "f", 3, b"")];
        let later: Vec<_> =
            without.into_iter().chain(lost).chain([record(5, b'S', "f", 4, b"")]).collect();
        assert_eq!(contents(&later, 5), [Some(Vec::new()), Some(b"lost".to_vec())]);
    }
}
