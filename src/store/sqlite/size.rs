//! Sizes: what a store takes, in pages and by estimate. Below the tables: it runs no statements.

/// What a message costs beside its text, about.
pub const MESSAGE_OVERHEAD: u64 = 64;

/// What a row costs that only refers to a message, about: in `ready`, `leases`, `expiries`, `notes`.
pub const ROW_BYTES: u64 = 64;

/// Free pages are kept for what comes next, unless there are more than this and than a quarter.
const FREE_PAGES: u64 = 512;

/// The same on a full disk: 1 MiB, which is more than the reserve and the log take there.
const FREE_PAGES_IF_FULL: u64 = 128;

/// Pages of SQLite, by what is in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    pub all: u64,
    pub free: u64,
}

impl Pages {
    fn used(self) -> u64 {
        self.all.saturating_sub(self.free)
    }

    /// Whether there are more free ones than anyone will need soon, or so many that a full disk has
    /// room again without them.
    fn many_free(self, is_disk_full: bool) -> bool {
        self.free > FREE_PAGES && self.free > self.all / 4
            || is_disk_full && self.free > FREE_PAGES_IF_FULL
    }
}

/// The store's size: SQLite's pages as of the last look at them, and estimates of what came and went
/// since. A look takes two pragmas, which SQLite compiles again each time.
#[derive(Clone, Copy)]
pub struct Size {
    used: u64,
    added: u64,
    removed: u64,
    many_free: bool,
}

impl Size {
    /// The size of these pages, of which each takes `page_bytes`.
    pub fn new(pages: Pages, page_bytes: u64, is_disk_full: bool) -> Size {
        let many_free = pages.many_free(is_disk_full);
        Size { used: pages.used() * page_bytes, added: 0, removed: 0, many_free }
    }

    pub fn estimate(self) -> u64 {
        (self.used + self.added).saturating_sub(self.removed)
    }

    /// Whether pages are to be given back.
    pub fn many_free(self) -> bool {
        self.many_free
    }

    /// With bytes that were added.
    pub fn plus(self, bytes: u64) -> Size {
        Size { added: self.added + bytes, ..self }
    }

    /// Without bytes that were removed.
    pub fn minus(self, bytes: u64) -> Size {
        Size { removed: self.removed + bytes, ..self }
    }

    /// Bytes that were added or removed since the last look, whichever are more.
    pub fn changed(self) -> u64 {
        self.added.max(self.removed)
    }

    /// What it is if nothing was removed.
    pub fn at_most(self) -> u64 {
        self.used + self.added
    }
}
