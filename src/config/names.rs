//! Names in the configuration: hosts, and origins of web pages.

/// Parses a host name into lower case, such as `queue.example.com`.
pub fn host(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || !text.bytes().all(is_part) {
        return Err(
            "not a host's name: say it without scheme and port, as queue.example.com".into()
        );
    }
    Ok(text.to_ascii_lowercase())
}

/// Parses an origin into lower case, as browsers send it, or `*`.
pub fn origin(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"/?#@,*\\".contains(&byte);
    if text == "*" || place.is_some_and(|place| !place.is_empty() && place.bytes().all(is_part)) {
        return Ok(text);
    }
    Err("no origin: say '*', or scheme and host without a path, as https://example.com".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_alone() {
        assert_eq!(host("Queue.example.com"), Ok("queue.example.com".into()));
        for wrong in ["", "http://a", "a:1", "a/b", "a b", "*", "é"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        for right in ["*", "https://example.com", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(origin(right), Ok(right.into()));
        }
        assert_eq!(origin("HTTPS://Example.com"), Ok("https://example.com".into()));
        for wrong in ["", "null", "example.com", "https://", "https://a/", "ftp://a", "http://*.a"]
        {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
