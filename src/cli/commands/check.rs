//! `dsmq check`: verifies the file of a store.

use std::io::{self, BufWriter, Write};

use super::super::args::Check;
use super::{Failure, say};
use crate::store::{self, Checked};

/// Prints each fault on a line, or one line if there is none; false if there are faults.
pub fn check(args: &Check) -> Result<bool, Failure> {
    let checked = store::check(&args.path).map_err(Failure::Store)?;
    let mut output = BufWriter::new(io::stdout().lock());
    say(&mut output, |output| report(args, &checked, output))?;
    Ok(checked.faults.is_empty())
}

fn report(args: &Check, checked: &Checked, output: &mut dyn Write) -> io::Result<()> {
    if checked.faults.is_empty() {
        let Checked { topics, messages, bytes, .. } = checked;
        let path = args.path.display();
        writeln!(
            output,
            "{path}: all is well: topics {topics}, messages {messages}, bytes {bytes}"
        )?;
    }
    checked.faults.iter().try_for_each(|fault| writeln!(output, "{fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(faults: &[&str]) -> String {
        let faults = faults.iter().map(|&fault| fault.to_owned()).collect();
        let checked = Checked { topics: 1, messages: 20, bytes: 300, faults };
        let mut output = Vec::new();
        report(&Check { path: "q.db".into() }, &checked, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn all_is_well_in_one_line_or_each_fault_has_its_own() {
        assert_eq!(reported(&[]), "q.db: all is well: topics 1, messages 20, bytes 300\n");
        assert_eq!(reported(&["one", "two"]), "one\ntwo\n");
    }
}
