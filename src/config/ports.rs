//! Ports of their own, for protocols that expect them.

/// O3one MQ's: to subscribers, from publishers, its WebSocket bridge.
pub const O3ONE: [u16; 3] = [5555, 5556, 8765];

/// CoreMQ's.
pub const COREMQ: u16 = 6747;

/// Which port `--coremq` listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreMqPort {
    /// The one that `coremq.conf` names, or else 6747.
    Own,
    /// This one; 0 is a free one.
    Port(u16),
}

/// The flag's value: a port, or `true` for the one that its programs expect.
pub fn coremq(text: &str) -> Result<CoreMqPort, String> {
    if text == "true" {
        return Ok(CoreMqPort::Own);
    }
    let port = text.parse().map(CoreMqPort::Port);
    port.map_err(|_| format!("say a port, such as {COREMQ}; 0 is a free one"))
}

/// The flag's value: the ports, or `true` for those that its programs expect.
pub fn o3one(text: &str) -> Result<[u16; 3], String> {
    ports(text, O3ONE)
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
    fn a_port_or_the_one_that_is_expected() {
        assert_eq!(coremq("true"), Ok(CoreMqPort::Own));
        assert_eq!(coremq("0"), Ok(CoreMqPort::Port(0)));
        for wrong in ["", "false", "-1", "65536", "1,2"] {
            assert_eq!(coremq(wrong), Err("say a port, such as 6747; 0 is a free one".into()));
        }
    }

    #[test]
    fn as_many_ports_as_there_are_addresses() {
        assert_eq!(o3one("1,0,65535"), Ok([1, 0, 65535]));
        assert_eq!(o3one("true"), Ok(O3ONE));
        for wrong in ["", "1", "1,2", "1,2,3,4", "1,2,65536", "1,2,-3", "1,,3", "false"] {
            let text = o3one(wrong).unwrap_err();
            assert!(text.starts_with("say 3 ports") && text.contains("5555,5556,8765"), "{text}");
        }
    }
}
