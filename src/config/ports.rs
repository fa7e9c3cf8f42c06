//! Ports of protocols that expect one of their own.

/// The port that programs for CoreMQ expect.
pub const COREMQ: u16 = 6747;

/// The port for `--coremq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreMqPort {
    /// The port of `coremq.conf`, or else 6747.
    Own,
    /// This port; 0 takes a free one.
    Port(u16),
}

/// Parses a port, or `true` for the expected one.
pub fn coremq(text: &str) -> Result<CoreMqPort, String> {
    if text == "true" {
        return Ok(CoreMqPort::Own);
    }
    let port = text.parse().map(CoreMqPort::Port);
    port.map_err(|_| format!("say a port, such as {COREMQ}; 0 is a free one"))
}

/// The ports of O3one MQ. 0 takes a free port.
///
/// ```
/// let ports = dsmq::O3onePorts { page: None, ..dsmq::O3onePorts::OWN };
/// assert_eq!(ports, [5555, 5556, 8765].into());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct O3onePorts {
    /// For subscribers.
    pub subscribe: u16,
    /// For publishers.
    pub publish: u16,
    /// For the WebSocket bridge.
    pub websocket: u16,
    /// For the page, which is also on the server's own port.
    pub page: Option<u16>,
}

impl O3onePorts {
    /// The ports that programs for O3one MQ expect.
    pub const OWN: O3onePorts =
        O3onePorts { subscribe: 5555, publish: 5556, websocket: 8765, page: Some(9000) };
}

impl From<[u16; 3]> for O3onePorts {
    fn from([subscribe, publish, websocket]: [u16; 3]) -> O3onePorts {
        O3onePorts { subscribe, publish, websocket, page: None }
    }
}

/// Parses the ports, or `true` for the expected ones.
pub fn o3one(text: &str) -> Result<O3onePorts, String> {
    if text == "true" {
        return Ok(O3onePorts::OWN);
    }
    let ports: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
    match ports.as_deref() {
        Ok(&[subscribe, publish, websocket]) => Ok([subscribe, publish, websocket].into()),
        Ok(&[subscribe, publish, websocket, page]) => {
            Ok(O3onePorts { page: Some(page), ..[subscribe, publish, websocket].into() })
        }
        _ => Err("say 3 ports with commas between them, such as 5555,5556,8765, or a fourth for \
                  the page; 0 is a free one"
            .to_owned()),
    }
}

/// The ports that programs for Mezzenger expect: for subscribers, and for publishers.
pub const MEZZENGER: [u16; 2] = [7201, 7202];

/// Parses the two ports, or `true` for the expected ones.
pub fn mezzenger(text: &str) -> Result<[u16; 2], String> {
    if text == "true" {
        return Ok(MEZZENGER);
    }
    let ports: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
    ports.ok().and_then(|ports| ports.try_into().ok()).ok_or_else(|| {
        "say 2 ports with a comma between them, such as 7201,7202; 0 is a free one".to_owned()
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
        assert_eq!(o3one("1,0,65535"), Ok([1, 0, 65535].into()));
        assert_eq!(
            o3one("1,2,3,0"),
            Ok(O3onePorts { subscribe: 1, publish: 2, websocket: 3, page: Some(0) })
        );
        assert_eq!(o3one("true"), Ok(O3onePorts::OWN));
        for wrong in ["", "1", "1,2", "1,2,3,4,5", "1,2,65536", "1,2,-3", "1,,3", "false"] {
            let text = o3one(wrong).unwrap_err();
            assert!(text.starts_with("say 3 ports") && text.contains("5555,5556,8765"), "{text}");
        }
        assert_eq!(mezzenger("true"), Ok(MEZZENGER));
        assert_eq!(mezzenger("0,1"), Ok([0, 1]));
        for wrong in ["", "1", "1,2,3", "1,65536", "false"] {
            assert!(mezzenger(wrong).unwrap_err().starts_with("say 2 ports"), "{wrong}");
        }
    }
}
