//! The tables of docs/reference/translation.md, and of its frozen copy, cell by cell.

/// The text of a document.
#[derive(Clone, Copy)]
pub struct Document(pub &'static str);

impl Document {
    /// The line that this copy has: the frozen one keeps the headings of its time.
    pub fn either(self, now: &'static str, frozen: &'static str) -> &'static str {
        if self.0.contains(&format!("\n{now}\n")) { now } else { frozen }
    }

    /// The cells of a table's lines under this heading, below its first line, which is this.
    pub fn table(self, heading: &str, first: &str) -> Vec<Vec<String>> {
        let behind = self.0.split_once(&format!("\n{heading}\n")).expect(heading).1;
        let table = behind.lines().skip_while(|line| !line.starts_with('|'));
        let mut lines = table.take_while(|line| line.starts_with('|'));
        assert_eq!(lines.next(), Some(first), "{heading}");
        let rows: Vec<_> = lines.skip(1).map(cells).collect();
        let columns = cells(first).len();
        assert!(rows.iter().all(|row| row.len() == columns), "{heading}: {rows:?}");
        rows
    }

    /// The headings of the third level under one of the second.
    pub fn headings(self, above: &str) -> Vec<&'static str> {
        let behind = self.0.split_once(&format!("\n{above}\n")).expect(above).1;
        let lines = behind.lines().take_while(|line| !line.starts_with("## "));
        lines.filter_map(|line| line.strip_prefix("### ")).collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    let line = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).unwrap();
    // A bar inside of a cell has a backslash before it.
    let line = line.replace("\\|", "\u{0}");
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// What a cell quotes, and what it says behind that.
pub fn quoted(cell: &str) -> (&str, &str) {
    if let Some(said) = cell.strip_prefix("*empty*") {
        return ("", said.trim_start());
    }
    let parts = cell.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    let (quoted, said) = parts.unwrap_or_else(|| panic!("{cell:?} quotes nothing"));
    (quoted, said.trim_start())
}
