//! flags.txt: every command's arguments and flags with their environment variables, defaults, value
//! names and possible values, as the binary's own help lists them.

use crate::suite::support::process::{dsmq, run};

use super::golden;

#[test]
fn flags_of_every_command() {
    let main = help(&[]);
    let commands = section(&main, "Commands:").filter_map(|line| {
        // Two spaces, the name, and more spaces before its prose.
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split(' ').next().unwrap().to_owned())
    });
    let commands: Vec<_> = commands.filter(|name| name != "help").collect();
    assert!(commands.len() > 10, "the commands were not found in the help: {commands:?}");
    let mut lines = described(&main);
    for command in commands {
        lines.extend(described(&help(&[&command])));
    }
    golden::check("flags.txt", &lines);
}

fn help(command: &[&str]) -> Vec<String> {
    let ended = run(&mut dsmq(&[command, &["--help"]].concat()), "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    ended.stdout
}

/// The lines below a heading, up to the next heading.
fn section<'a>(help: &'a [String], heading: &str) -> impl Iterator<Item = &'a str> {
    let lines = help.iter().map(String::as_str).skip_while(move |line| *line != heading).skip(1);
    lines.take_while(|line| line.is_empty() || line.starts_with(' '))
}

/// A line for the command, and one for each of its arguments and flags.
fn described(help: &[String]) -> Vec<String> {
    let usage = help.iter().find_map(|line| line.strip_prefix("Usage: ")).unwrap();
    let mut lines = vec![usage.to_owned()];
    let headings = help.iter().filter(|line| !line.starts_with(' ') && line.ends_with(':'));
    for heading in headings.filter(|heading| *heading != "Commands:") {
        entries(section(help, heading), &mut lines);
    }
    lines
}

/// Adds the entries of a section. Below an entry stands its prose and, after an empty line, what clap
/// knows of it: `[env: …]`, `[default: …]`, `[possible values: …]` or a list of values. Where no entry
/// of a command has long prose, all of that follows the entry on its line.
fn entries<'a>(section: impl Iterator<Item = &'a str>, lines: &mut Vec<String>) {
    let (mut is_known, mut prose) = (false, String::new());
    for line in section {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text.is_empty() {
            is_known = true;
        } else if indent < 10 {
            // Examples are no entries.
            if !text.starts_with(['-', '<', '[']) {
                return;
            }
            add_known(lines, &std::mem::take(&mut prose));
            let (entry, begin) = text.split_once("  ").unwrap_or((text, ""));
            lines.push(format!("  {entry}"));
            prose = begin.trim().to_owned();
            is_known = false;
        } else if !prose.is_empty() {
            prose += &format!(" {text}");
        } else if let Some((value, _)) = text.strip_prefix("- ").and_then(|v| v.split_once(':')) {
            *lines.last_mut().unwrap() += &format!("  value: {value}");
        } else if is_known && text.starts_with('[') {
            *lines.last_mut().unwrap() += &format!("  {}", text.trim_matches(['[', ']']));
        } else {
            is_known = false;
        }
    }
    add_known(lines, &prose);
}

/// Adds to the last entry what stands in brackets at the end of its prose, from its variable or its
/// default on.
fn add_known(lines: &mut [String], prose: &str) {
    let begin = prose.find("[env: ");
    let begin = begin.or_else(|| prose.rfind("[default: ").filter(|_| prose.ends_with(']')));
    let known = begin.and_then(|at| prose.get(at..)).unwrap_or_default();
    for known in known.split(']').map(str::trim).filter(|known| !known.is_empty()) {
        *lines.last_mut().unwrap() += &format!("  {}", known.trim_start_matches('['));
    }
}
