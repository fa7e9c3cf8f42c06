//! The key of the opening handshake: it shows that the server knows that this is a WebSocket.

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key is 16 bytes in base64.
const KEY_CHARACTERS: usize = 24;

/// What answers this key; `None` if it is none.
pub fn accept(key: &str) -> Option<String> {
    let (digits, padding) = key.split_at_checked(KEY_CHARACTERS - 2)?;
    if padding != "==" || !digits.bytes().all(|digit| BASE64.contains(&digit)) {
        return None;
    }
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    Some(base64(&hash.digest().bytes()))
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut group = [0; 4];
        group.iter_mut().skip(1).zip(three).for_each(|(to, from)| *to = *from);
        let bits = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let letter = BASE64.get(index as usize).copied().unwrap_or(b'=');
            text.push(if digit <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
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
    fn what_is_no_key_has_no_answer() {
        for wrong in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25j!Q==",
            "dGhlIHNhbXBsZSBub25jZQ===",
        ] {
            assert_eq!(accept(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
