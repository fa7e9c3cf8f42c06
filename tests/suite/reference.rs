//! docs/reference, checked against the frozen lists of flags, metrics and error codes (which other tests
//! compare with the binary), and its links.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The lines of a golden file without its comments.
fn golden(name: &str) -> Vec<String> {
    let text = read(&format!("tests/contract/{name}"));
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The only line of a page that starts with this.
fn row<'a>(page: &'a str, start: &str) -> &'a str {
    let mut rows = page.lines().filter(|line| line.starts_with(start));
    let row = rows.next().unwrap_or_else(|| panic!("no row starts with {start:?}"));
    assert_eq!(rows.next(), None, "a second row starts with {start:?}");
    row
}

#[test]
fn configuration_lists_every_flag_with_its_variable_and_default() {
    let page = read("docs/reference/configuration.md");
    let server = golden("flags.txt").into_iter().skip(1);
    let server = server.take_while(|line| line.starts_with(' '));
    let mut flags = 0;
    for line in server.filter(|line| line.contains("env: ")) {
        let fields: Vec<&str> = line.trim().split("  ").collect();
        // `--coremq[=<PORT>]` in the help is `--coremq[=PORT]` on the page.
        let name = fields[0].split([' ', '[']).next().unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|row| {
                row.strip_prefix(&format!("| `{name}"))
                    .is_some_and(|rest| rest.starts_with([' ', '[', '`']))
            })
            .collect();
        let [row] = rows[..] else { panic!("{name} has {} rows", rows.len()) };
        for field in &fields[1..] {
            let expected = match field.split_once(": ") {
                Some(("env", name)) => name.trim_end_matches('='),
                Some(("default", value)) => value,
                _ => continue,
            };
            assert!(row.contains(&format!("`{expected}`")), "{name}: {field}: {row}");
        }
        flags += 1;
    }
    assert!(flags > 20, "only {flags} flags were found");
}

#[test]
fn configuration_lists_every_command_with_its_flags() {
    let page = read("docs/reference/configuration.md");
    let common = ["--help", "--host", "--port", "--log", "--config"];
    let mut command = String::new();
    for line in golden("flags.txt") {
        if let Some(usage) = line.strip_prefix("dsmq ") {
            command = usage.split(' ').next().unwrap().to_owned();
        } else if let Some(flag) = line.trim().strip_prefix("--")
            && !command.starts_with('[')
        {
            let flag = format!("--{}", flag.split([' ', '[']).next().unwrap());
            let row = page.lines().find(|row| {
                row.strip_prefix(&format!("| `{command}"))
                    .is_some_and(|rest| rest.starts_with([' ', '`']))
            });
            let row = row.unwrap_or_else(|| panic!("{command} has no row"));
            let named = row.contains(&format!("`{flag} ")) || row.contains(&format!("`{flag}`"));
            assert!(named || common.contains(&&*flag), "{command} {flag}");
        }
    }
}

#[test]
fn metrics_page_lists_every_metric_with_its_type() {
    let page = read("docs/reference/metrics.md");
    let lines = golden("metrics.txt").into_iter().chain(golden("metrics-redis.txt"));
    for line in lines {
        let (name, rest) = line.split_once(' ').unwrap();
        let kind = rest.split(' ').next().unwrap();
        let mut rows = page.lines().filter(|row| {
            row.strip_prefix(&format!("| `{name}")).is_some_and(|rest| rest.starts_with(['`', '{']))
        });
        let row = rows.next().unwrap_or_else(|| panic!("{name} has no row"));
        assert!(row.contains(&format!("` | {kind} |")), "{line}: {row}");
        assert_eq!(rows.next(), None, "{name} has two rows");
    }
}

#[test]
fn errors_page_gives_status_and_end_of_connection_of_every_code() {
    let page = read("docs/reference/errors.md");
    for line in golden("error-codes.txt") {
        let mut words = line.split(' ');
        let (code, status) = (words.next().unwrap(), words.next().unwrap());
        let closes = if words.next() == Some("closes") { "yes" } else { "no" };
        let row = row(&page, &format!("| `{code}` | "));
        assert!(row.starts_with(&format!("| `{code}` | {status} |")), "{line}: {row}");
        let said = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        assert!(said.starts_with(closes), "{line}: {row}");
    }
}

/// The anchor that a heading has on GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_of_the_reference_lead_somewhere() {
    let docs = Path::new(ROOT).join("docs");
    let mut pages: Vec<PathBuf> = vec![docs.join("glossary.md")];
    let reference = fs::read_dir(docs.join("reference")).unwrap();
    pages.extend(reference.map(|entry| entry.unwrap().path()));
    let mut links = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for test in text.split("`tests/").skip(1).filter_map(|rest| rest.split('`').next()) {
            assert!(docs.join("../tests").join(test).exists(), "{}: {test}", page.display());
        }
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, at) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.is_file(), "{}: {target}", page.display());
            let found = at.is_empty() || anchors(&file).iter().any(|anchor| anchor == at);
            assert!(found, "{}: {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 40, "only {links} links were found");
}
