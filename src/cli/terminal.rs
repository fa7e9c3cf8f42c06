//! Standard output of the client commands. On a terminal it escapes characters that could control the
//! terminal or reorder its text: messages and topic names come from strangers.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Standard output, buffered.
pub struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    escapes: bool,
}

/// Opens standard output. It never escapes JSON, nor anything that goes to a pipe or a file.
pub fn stdout(is_json: bool) -> Output {
    let stdout = io::stdout().lock();
    let escapes = !is_json && stdout.is_terminal();
    Output { stdout: BufWriter::new(stdout), escapes }
}

impl Write for Output {
    /// `text` ends at a character boundary, as all text from format macros does.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self.escapes {
            true => self.stdout.write_all(escaped(&String::from_utf8_lossy(text)).as_bytes())?,
            false => self.stdout.write_all(text)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Writes unsafe characters as `\u{1b}`; line ends and tabs stay.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unsafe(character) {
            true => safe.extend(character.escape_unicode()),
            false => safe.push(character),
        }
    }
    safe
}

/// Control characters (C0, DEL, C1) and those that change the direction of text.
fn is_unsafe(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_characters_are_escaped_and_all_others_stay() {
        assert_eq!(escaped("a\tb\nü 😀"), "a\tb\nü 😀");
        assert_eq!(escaped("\u{1b}[2J\u{7}\r\u{7f}"), r"\u{1b}[2J\u{7}\u{d}\u{7f}");
        assert_eq!(escaped("\u{9b}31m \u{202e}x\u{2069}"), r"\u{9b}31m \u{202e}x\u{2069}");
    }
}
