//! The key of the opening handshake: it shows that the server knows that this is a WebSocket.

use base64::alphabet;
use base64::engine::{Engine, GeneralPurpose, GeneralPurposeConfig};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A key is this many bytes in base64. Bits behind the last byte mean nothing.
const KEY_BYTES: usize = 16;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What answers this key; `None` if it is none.
pub fn accept(key: &str) -> Option<String> {
    BASE64.decode(key).ok().filter(|bytes| bytes.len() == KEY_BYTES)?;
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    Some(BASE64.encode(hash.digest().bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        let answer = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn bits_behind_the_key_mean_nothing() {
        assert!(accept("dGhlIHNhbXBsZSBub25jZR==").is_some());
    }

    #[test]
    fn what_is_no_key_has_no_answer() {
        for wrong in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25j!Q==",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZT0=",
            "dGhlIHNhbXBsZSBub24=",
        ] {
            assert_eq!(accept(wrong), None, "{wrong}");
        }
    }
}
