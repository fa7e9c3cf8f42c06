//! How the SQLite of this binary was compiled. `.cargo/config.toml` has the flags; `cargo install` from
//! a registry or from git does not read that file.

use rusqlite::Connection;

/// The flags of `.cargo/config.toml`, as the environment of a build says them.
const FLAGS: &str = "LIBSQLITE3_FLAGS=\"-DSQLITE_DEFAULT_MEMSTATUS=0 -DHAVE_FDATASYNC=1\"";

/// The one of these flags that SQLite can name; the other comes from the same variable.
const TELLING: &str = "DEFAULT_MEMSTATUS=0";

/// SQLite's version and, if its compile flags are missing, what to do.
pub fn about() -> String {
    let version = rusqlite::version();
    match missing_flags() {
        None => format!("SQLite {version}, {TELLING}"),
        Some(advice) => format!("SQLite {version}: {advice}"),
    }
}

/// A line of advice if SQLite was compiled without the flags that dsmq is measured with.
pub fn missing_flags() -> Option<String> {
    advice(&compile_options().unwrap_or_default())
}

fn compile_options() -> rusqlite::Result<Vec<String>> {
    let sqlite = Connection::open_in_memory()?;
    let mut options = sqlite.prepare("PRAGMA compile_options")?;
    options.query_map([], |row| row.get(0))?.collect()
}

fn advice(options: &[String]) -> Option<String> {
    let is_missing = !options.iter().any(|option| option == TELLING);
    is_missing
        .then(|| format!("compiled without {TELLING}, which makes it slower: build with {FLAGS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_flag_is_reported_with_the_remedy() {
        let threads = "THREADSAFE=1".to_owned();
        for options in [vec![], vec![threads.clone()], vec!["DEFAULT_MEMSTATUS=1".to_owned()]] {
            let advice = advice(&options).unwrap();
            assert!(advice.starts_with("compiled without DEFAULT_MEMSTATUS=0"), "{advice}");
            assert!(advice.ends_with(FLAGS), "{advice}");
        }
        assert_eq!(advice(&[threads, TELLING.to_owned()]), None);
    }

    #[test]
    fn the_remedy_is_what_builds_in_this_repository_use() {
        let config = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/config.toml"));
        let (name, flags) = FLAGS.split_once('=').unwrap();
        assert!(config.contains(&format!("{name} = {flags}")), "{config}");
        let options = compile_options().unwrap();
        assert!(options.iter().any(|option| option == TELLING), "{options:?}");
    }
}
