//! Ports of their own, for protocols that expect them.

/// O3one MQ's: to subscribers, from publishers, its WebSocket bridge.
pub const O3ONE: [u16; 3] = [5555, 5556, 8765];

/// The flag's value: the ports, or `true` for those that its programs expect.
pub fn o3one(text: &str) -> Result<[u16; 3], String> {
    ports(text, O3ONE)
}

/// Mezzenger's: to subscribers, from publishers.
pub const MEZZENGER: [u16; 2] = [7201, 7202];

/// The flag's value, as that of O3one MQ's.
pub fn mezzenger(text: &str) -> Result<[u16; 2], String> {
    ports(text, MEZZENGER)
}

fn ports<const N: usize>(text: &str, own: [u16; N]) -> Result<[u16; N], String> {
    if text == "true" {
        return Ok(own);
    }
    let ports: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
    let ports = ports.ok().and_then(|ports| ports.try_into().ok());
    ports.ok_or_else(|| {
        let own = own.map(|port| port.to_string()).join(",");
        format!("say {N} ports with commas between them, such as {own}; 0 is a free one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_ports_as_there_are_addresses() {
        assert_eq!(mezzenger("true"), Ok(MEZZENGER));
        assert_eq!(mezzenger("0,1"), Ok([0, 1]));
        assert!(mezzenger("1,2,3").unwrap_err().starts_with("say 2 ports"));
        assert_eq!(o3one("1,0,65535"), Ok([1, 0, 65535]));
        assert_eq!(o3one("true"), Ok(O3ONE));
        for wrong in ["", "1", "1,2", "1,2,3,4", "1,2,65536", "1,2,-3", "1,,3", "false"] {
            let text = o3one(wrong).unwrap_err();
            assert!(text.starts_with("say 3 ports") && text.contains("5555,5556,8765"), "{text}");
        }
    }
}
