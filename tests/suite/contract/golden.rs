//! Golden files: compares what this build does with a file of tests/contract/, line by line.

use std::path::Path;
use std::{env, fs};

/// Set to 1, it writes the golden files anew. Each test that wrote one fails, so that no CI can pass
/// with it.
const WRITE: &str = "DSMQ_WRITE_CONTRACT";

/// Compares the lines with those of the golden file; a line that begins with `#` is a comment.
pub fn check(name: &str, actual: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract").join(name);
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let (comments, expected): (Vec<_>, Vec<_>) =
        golden.lines().partition(|line| line.starts_with('#'));
    if env::var_os(WRITE).is_some_and(|value| value == "1") {
        let comments = comments.into_iter().map(str::to_owned);
        let lines: Vec<String> = comments.chain(actual.iter().cloned()).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        panic!("wrote tests/contract/{name}: unset {WRITE} and run the tests again");
    }
    let actual: Vec<_> = actual.iter().map(String::as_str).collect();
    let differences = differences(&expected, &actual);
    assert!(
        differences.is_empty(),
        "this build differs from tests/contract/{name} (-: the file, +: this build):\n{}\n\
         If the change of the promise is intended, {WRITE}=1 writes the file anew; \
         tests/contract/README.md says how to commit it",
        differences.join("\n")
    );
}

/// The lines that only one side has, in order.
fn differences(old: &[&str], new: &[&str]) -> Vec<String> {
    // The length of the longest common part of what is left of both, from each place.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines
}

#[test]
fn differences_are_the_lines_of_one_side_in_order() {
    assert_eq!(differences(&["a", "b"], &["a", "b"]), Vec::<String>::new());
    assert_eq!(differences(&["a", "b", "c"], &["a", "x", "c"]), ["- b", "+ x"]);
    assert_eq!(differences(&["a"], &["a", "b"]), ["+ b"]);
    assert_eq!(differences(&["a", "b"], &[]), ["- a", "- b"]);
}
