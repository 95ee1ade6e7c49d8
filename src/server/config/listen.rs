//! Listen addresses, as operators write them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Parses an address and a port. A port alone, as in `8081` or `:8081`, and the name `localhost` mean the loopback
/// address, because a server must not listen on a network that the operator has not named.
pub fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_port)?;
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_alone_means_loopback() {
        for (text, expected) in [
            ("8081", "127.0.0.1:8081"),
            (":8081", "127.0.0.1:8081"),
            ("localhost:8081", "127.0.0.1:8081"),
            (" 0.0.0.0:80 ", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
            ("[::]:0", "[::]:0"),
        ] {
            assert_eq!(address(text), expected.parse().ok(), "{text}");
        }
        for text in
            ["", ":", "localhost", "0.0.0.0", "::1", "65536", "+80", "-1", "80 81", "host.example:80", "http://a"]
        {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
