//! Addresses: networks by their CIDR notation, and whose address a request comes from.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A network, such as `203.0.113.0/24`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Whether `address` is in it. An IPv4 address written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a network in CIDR notation with no bit set behind its length, such as 203.0.113.0/24")]
pub struct NotANetwork;

impl FromStr for Cidr {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse().map_err(|_| NotANetwork)?,
        };
        let network = canonical(network);
        // 10.1.2.3/8 is as likely a slip as it is 10.0.0.0/8.
        if network.trunc() != network { Err(NotANetwork) } else { Ok(Self(network)) }
    }
}

/// A network of IPv4 addresses that are written as IPv6 is that IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let IpAddr::V4(address) = IpAddr::V6(mapped.addr()).to_canonical() else { return network };
    let length = mapped.prefix_len().checked_sub(96);
    length.and_then(|length| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "cidr", "maxLength": 43, "examples": ["203.0.113.0/24", "2001:db8::/32"] })
    }
}

/// The address of the client behind a connection. `X-Forwarded-For` is believed as far as it was written
/// by proxies that the operator trusts: read from its end, the first address that is none of them is the
/// client's. What stands before it, anybody can have written.
pub fn client_address(peer: SocketAddr, forwarded_for: &str, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.ip().to_canonical();
    for entry in forwarded_for.rsplit(',') {
        if !is_trusted(address) {
            break;
        }
        match entry.trim() {
            // An empty list element says nothing (RFC 9110 §5.6.1.2).
            "" => {}
            entry => match parse_forwarded(entry) {
                Some(forwarded) => address = forwarded,
                None => break,
            },
        }
    }
    address
}

/// An address as proxies write it: bare, an IPv6 address in brackets, or either with a port.
fn parse_forwarded(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse::<IpAddr>().ok().or_else(bracketed).or_else(with_port);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_as_it_is_written_and_one_address_is_one() {
        for (text, shown) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "203.0.113.7/24",
            "203.0.113.0/33",
            "example.com",
            "203.0.113",
            " 203.0.113.0/24",
            "::ffff:203.0.113.7/120",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(NotANetwork), "{text:?}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_as_far_as_trusted_proxies_wrote_it() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "2001:db8::1"].iter().map(|text| text.parse().unwrap()).collect();
        let address =
            |peer: &str, forwarded: &str| client_address(peer.parse().unwrap(), forwarded, &trusted).to_string();
        // From nobody whom the operator trusts: ignored.
        assert_eq!(address("203.0.113.7:1", "198.51.100.1"), "203.0.113.7");
        assert_eq!(address("10.0.0.1:1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(address("10.0.0.1:1", "1.1.1.1, 198.51.100.1"), "198.51.100.1");
        assert_eq!(address("10.0.0.1:1", "198.51.100.1, 10.0.0.2"), "198.51.100.1");
        assert_eq!(address("10.0.0.1:1", ""), "10.0.0.1");
        assert_eq!(address("10.0.0.1:1", "junk"), "10.0.0.1");
        assert_eq!(address("10.0.0.1:1", "junk, 10.0.0.2"), "10.0.0.2");
        assert_eq!(address("10.0.0.1:1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(address("[2001:db8::1]:1", "[2001:db8::2]:4711"), "2001:db8::2");
        assert_eq!(address("[::ffff:10.0.0.1]:1", "::ffff:198.51.100.1"), "198.51.100.1");
    }

    #[test]
    fn every_spelling_of_a_forwarded_address_is_read() {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1:1".parse().unwrap();
        let address = |forwarded: &str| client_address(peer, forwarded, &trusted).to_string();
        for (text, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:0DB8:0:0:0:0:0:7]", "2001:db8::7"),
            ("[::ffff:198.51.100.1]", "198.51.100.1"),
            ("[::ffff:198.51.100.1]:4711", "198.51.100.1"),
            (" 198.51.100.1 , [2001:db8::7] ", "2001:db8::7"),
            ("198.51.100.1,", "198.51.100.1"),
            ("198.51.100.1, ,", "198.51.100.1"),
            ("[2001:db8::7], 10.0.0.2", "2001:db8::7"),
        ] {
            assert_eq!(address(text), expected, "{text:?}");
        }
        // Anything else is no address, so the proxy's own stands in.
        for text in [
            "[198.51.100.1]",
            "[2001:db8::7",
            "2001:db8::7]",
            "[]",
            "[2001:db8::7]:",
            "[2001:db8::7]:70000",
            "[[2001:db8::7]]",
            "198.051.100.1",
            "unknown",
            "_hidden",
            "for=198.51.100.1",
        ] {
            assert_eq!(address(text), "10.0.0.1", "{text:?}");
        }
    }
}
