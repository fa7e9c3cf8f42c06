//! INI files as Python's configparser reads them: sections, keys in any case, values over several
//! lines if the further ones are indented, comments on lines of their own.

/// What stands under a `[name]`, in its order.
#[derive(Debug, Default, PartialEq)]
pub struct Section {
    pub name: String,
    pub entries: Vec<Entry>,
}

#[derive(Debug, PartialEq)]
pub struct Entry {
    pub line: usize,
    /// In lower case.
    pub key: String,
    pub value: String,
}

/// The sections of a file; an error is a line's number and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Section>, (usize, &'static str)> {
    let mut sections: Vec<Section> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, whole) in (1..).zip(text.lines()) {
        let said = whole.trim();
        if said.is_empty() || said.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |why| Err((line, why));
        let last = sections.last_mut();
        if let Some(name) = said.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if sections.iter().any(|section| section.name == name) {
                return wrong("this section is there already");
            }
            sections.push(Section { name: name.to_owned(), entries: Vec::new() });
            continue;
        }
        let Some(section) = last else {
            return wrong("a section comes first, as [CoreMQ]");
        };
        if whole.starts_with([' ', '\t'])
            && let Some(entry) = section.entries.last_mut()
        {
            entry.value += "\n";
            entry.value += said;
            continue;
        }
        let Some((key, value)) = said.split_once(['=', ':']) else {
            return wrong("this is neither a [section] nor key = value");
        };
        let key = key.trim().to_lowercase();
        if section.entries.iter().any(|entry| entry.key == key) {
            return wrong("this key is there already");
        }
        section.entries.push(Entry { line, key, value: value.trim().to_owned() });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: usize, key: &str, value: &str) -> Entry {
        Entry { line, key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn what_configparser_reads_is_read() {
        let text = "\u{feff}# said first\r\n[A]\r\nKey = one = 1\r\n; or so\r\n\r\nlist: a,\r\n  b,\n\tc\n\
                    empty =\n[ b ]\n  indented = x # no comment\n";
        let first =
            vec![entry(3, "key", "one = 1"), entry(6, "list", "a,\nb,\nc"), entry(9, "empty", "")];
        let second = vec![entry(11, "indented", "x # no comment")];
        let sections = [("A", first), (" b ", second)];
        let sections = sections.map(|(name, entries)| Section { name: name.to_owned(), entries });
        assert_eq!(parse(text), Ok(sections.into()));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_it_does_not_read_is_refused_with_its_line() {
        for (text, line) in [
            ("a = 1", 1),
            ("[A]\nnonsense", 2),
            ("[A]\na = 1\nA = 2", 3),
            ("[A]\n[B]\n[A]", 3),
            ("[A\n", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text:?}");
        }
    }
}
