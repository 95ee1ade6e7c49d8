//! IP addresses: networks in CIDR notation, and the client address of a request.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Network, such as `203.0.113.0/24`, or single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Returns whether the network contains `address`. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Returns the network if it is an IPv4 network.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        match self.0 {
            IpNet::V4(network) => Some(network),
            IpNet::V6(_) => None,
        }
    }
}

/// Error for a text that is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCidrError {
    /// Not an address or a network.
    #[error("is not an address or a network in CIDR notation; write it like 203.0.113.0/24")]
    Malformed,
    /// A number has a leading zero.
    #[error("has a number with a leading zero, which some programs read as octal; write it like 203.0.113.0/24")]
    LeadingZero,
    /// Zone ID, which identifies an interface of one machine.
    #[error("has a zone id, which is only valid on one machine; remove the '%' and the text after it")]
    Zone,
    /// Invalid prefix length for this kind of address.
    #[error("must end with a prefix length from 0 to {0} in decimal; write it like 203.0.113.0/24")]
    PrefixLength(u8),
    /// IPv4-mapped IPv6 address with a prefix length below 96.
    #[error(
        "is an IPv4 address written as IPv6 with a prefix length below 96; write the IPv4 network, such as 203.0.113.0/24"
    )]
    MappedPrefix,
    /// Bits are set after the prefix length. 10.1.2.3/8 can be a mistake for 10.1.2.3/32 as well as for 10.0.0.0/8.
    #[error("has bits set after its prefix length; use {0} for the network")]
    HostBits(Cidr),
}

/// Parses one address strictly: no leading zeros, no zone id, no port. Converts an IPv4-mapped IPv6 address to IPv4.
pub fn parse_address(text: &str) -> Result<IpAddr, ParseCidrError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    let has_leading_zero = || {
        let last = text.rsplit(':').next().unwrap_or_default();
        last.contains('.') && last.split('.').any(begins_with_zero)
    };
    Err(match text.split_once('%') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => ParseCidrError::Zone,
        _ if has_leading_zero() => ParseCidrError::LeadingZero,
        _ => ParseCidrError::Malformed,
    })
}

/// Returns whether a decimal number has a leading zero.
fn begins_with_zero(number: &str) -> bool {
    number.len() > 1 && number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    /// Parses a network strictly. Bodies, settings and files all use this parser.
    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let Some((address, length)) = text.split_once('/') else { return parse_address(text).map(|a| Self(a.into())) };
        let canonical = parse_address(address)?;
        let is_mapped = canonical.is_ipv4() && address.contains(':');
        let max_length = if canonical.is_ipv4() && !is_mapped { 32 } else { 128 };
        if begins_with_zero(length) {
            return Err(ParseCidrError::LeadingZero);
        }
        let is_decimal = (1..=3).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = is_decimal.then(|| length.parse::<u8>().ok()).flatten().filter(|length| *length <= max_length);
        let length = length.ok_or(ParseCidrError::PrefixLength(max_length))?;
        let length = if is_mapped { length.checked_sub(96).ok_or(ParseCidrError::MappedPrefix)? } else { length };
        let network = IpNet::new(canonical, length).map_err(|_| ParseCidrError::PrefixLength(max_length))?;
        if network.trunc() != network {
            Err(ParseCidrError::HostBits(Self(network.trunc())))
        } else {
            Ok(Self(network))
        }
    }
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

/// Returns the client address of a connection. `X-Forwarded-For` is evaluated from its end, as far as trusted proxies
/// wrote it: the first address that is not a trusted proxy is the client. Entries before it can be forged.
pub fn client_address(peer: SocketAddr, forwarded_for: &str, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.ip().to_canonical();
    for entry in forwarded_for.rsplit(',') {
        if !is_trusted(address) {
            break;
        }
        match entry.trim() {
            // Empty list elements are ignored (RFC 9110 §5.6.1.2).
            "" => {}
            entry => match parse_forwarded(entry) {
                Some(forwarded) => address = forwarded,
                None => break,
            },
        }
    }
    address
}

/// Parses an address as proxies write it: a bare address, an IPv6 address in brackets, or either with a port.
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
    fn networks_and_single_addresses_are_parsed() {
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
    }

    #[test]
    fn every_other_spelling_of_a_network_is_rejected_with_its_reason() {
        use ParseCidrError as N;
        let host_bits = |network: &str| N::HostBits(network.parse().unwrap());
        for (text, why) in [
            ("", N::Malformed),
            ("/8", N::Malformed),
            ("example.com", N::Malformed),
            ("203.0.113", N::Malformed),
            ("203.0.113/24", N::Malformed),
            ("256.0.0.0/8", N::Malformed),
            (" 203.0.113.0/24", N::Malformed),
            ("[::1]", N::Malformed),
            ("0x0a.0.0.0/8", N::Malformed),
            ("167772160/8", N::Malformed),
            ("203.0.113.0:80", N::Malformed),
            ("010.0.0.0/8", N::LeadingZero),
            ("10.00.0.0/8", N::LeadingZero),
            ("10.0.0.01", N::LeadingZero),
            ("::ffff:010.0.0.0/104", N::LeadingZero),
            ("10.0.0.0/08", N::LeadingZero),
            ("fe80::1%eth0", N::Zone),
            ("fe80::%1/64", N::Zone),
            ("10.0.0.0/", N::PrefixLength(32)),
            ("10.0.0.0/+8", N::PrefixLength(32)),
            ("10.0.0.0/-8", N::PrefixLength(32)),
            ("10.0.0.0/ 8", N::PrefixLength(32)),
            ("10.0.0.0/8 ", N::PrefixLength(32)),
            ("10.0.0.0/8/8", N::PrefixLength(32)),
            ("10.0.0.0/255.0.0.0", N::PrefixLength(32)),
            ("10.0.0.0/٨", N::PrefixLength(32)),
            ("203.0.113.0/33", N::PrefixLength(32)),
            ("2001:db8::/129", N::PrefixLength(128)),
            ("::ffff:10.0.0.0/64", N::MappedPrefix),
            ("203.0.113.7/24", host_bits("203.0.113.0/24")),
            ("10.1.2.3/8", host_bits("10.0.0.0/8")),
            ("2001:db8::1/32", host_bits("2001:db8::/32")),
            ("::ffff:203.0.113.7/120", host_bits("203.0.113.0/24")),
            ("127.0.0.1/0", host_bits("0.0.0.0/0")),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn forwarded_address_is_used_only_from_trusted_proxies() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "2001:db8::1"].iter().map(|text| text.parse().unwrap()).collect();
        let address =
            |peer: &str, forwarded: &str| client_address(peer.parse().unwrap(), forwarded, &trusted).to_string();
        // Not from a trusted proxy: ignored.
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
    fn every_spelling_of_a_forwarded_address_is_parsed() {
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
        // Other texts are not addresses, so the address of the proxy is used.
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
