//! Addresses that webhooks may send to. A server often runs inside a private network. A client that chooses a URL must
//! not be able to make the server send requests to hosts that only this network can reach (server-side request
//! forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::base::{
    error::{Code, Error, ItemCode, Result},
    input::net::Cidr,
};

/// IPv4 networks that are not the public Internet (IANA special-purpose address registry, RFC 6890).
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    // "This" network, including the unspecified address.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Shared address space of carriers (CGNAT).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local. Clouds serve a machine's credentials there.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // 6to4 relays.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Network benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, including the broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Global unicast. Excludes loopback, link-local, unique-local and multicast addresses, and addresses that embed an
/// IPv4 address (mapped, compatible, NAT64).
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks within global unicast that are not the public Internet or embed an IPv4 address.
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    // Protocol assignments: Teredo, benchmarks, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // The former 6bone.
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// Whether `address` is on the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let is_in = |&(network, length): &(Ipv4Addr, u8)| {
                (address.to_bits() ^ network.to_bits()).checked_shr(32 - u32::from(length)) == Some(0)
            };
            !SPECIAL_V4.iter().any(is_in)
        }
        IpAddr::V6(address) => {
            let is_in = |&(network, length): &(Ipv6Addr, u8)| {
                (address.to_bits() ^ network.to_bits()).checked_shr(128 - u32::from(length)) == Some(0)
            };
            is_in(&GLOBAL_V6) && !SPECIAL_V6.iter().any(is_in)
        }
    }
}

/// Whether `address` is permitted: the public Internet over https, and the operator's allowed networks over https and
/// http.
pub fn is_permitted(address: IpAddr, scheme: &str, allowed: &[Cidr]) -> bool {
    let is_allowed = allowed.iter().any(|network| network.contains(address));
    is_allowed || (scheme == "https" && is_public(address))
}

/// Parses the URL of a webhook. A host name is resolved and checked at each attempt. An IP address is checked here too,
/// in any notation: 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1.
pub fn parse(text: &str, allowed: &[Cidr]) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| {
        Error::invalid_member(
            "/url",
            ItemCode::InvalidFormat,
            format!("is not a valid URL: {error}; use a URL such as https://example.com/hooks"),
        )
    })?;
    let refused = |detail: &str| Err(Error::new(Code::UrlNotAllowed, detail.to_owned()));
    // An allowed network may also be addressed by name.
    let http_is_allowed = url.scheme() == "http" && !allowed.is_empty();
    if url.scheme() != "https" && !http_is_allowed {
        return refused("The webhook's URL must use https; serve the receiver over TLS");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused(
            "The webhook's URL contains a user name or a password; remove them, and verify the signature instead",
        );
    }
    if url.fragment().is_some() {
        return refused("The webhook's URL has a fragment, which is never sent; remove the '#' and the text after it");
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
        None => return refused("The webhook's URL has no host; use a URL such as https://example.com/hooks"),
    };
    match address {
        Some(address) if !is_permitted(address, url.scheme(), allowed) => refused(
            "The webhook's URL has an address that is not permitted, such as a private one; use a public https address, or ask the operator to add its network to CLOUDAPI_WEBHOOK_ALLOW",
        ),
        _ => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<Code> {
        parse(text, &[]).err().map(|error| error.code())
    }

    #[test]
    fn addresses_outside_the_public_internet_are_rejected_in_any_notation() {
        for host in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "3232235777",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[::8.8.8.8]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "[2001:2::1]",
            "[2001:10::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[2002:808:808::1]",
            "[3ffe::1]",
            "[3fff::1]",
            "[5f00::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
        ] {
            let text = format!("https://{host}/hooks");
            assert_eq!(code(&text), Some(Code::UrlNotAllowed), "{text}");
        }
    }

    #[test]
    fn public_internet_is_permitted_over_https_only() {
        for host in [
            "example.com",
            "example.com:8443",
            "localhost",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.1.1.1",
            "[2606:4700:4700::1111]",
            "[2001:200::1]",
            "[2a00::1]",
        ] {
            assert_eq!(code(&format!("https://{host}/hooks?a=b")), None, "{host}");
            assert_eq!(code(&format!("http://{host}/hooks")), Some(Code::UrlNotAllowed), "{host}");
        }
        for text in
            ["ftp://example.com", "file:///etc/passwd", "gopher://example.com", "data:text/plain,x", "javascript:1"]
        {
            assert_eq!(code(text), Some(Code::UrlNotAllowed), "{text}");
        }
        for text in [
            "https://user@example.com",
            "https://user:word@example.com",
            "https://:word@example.com",
            "https://example.com/#x",
        ] {
            assert_eq!(code(text), Some(Code::UrlNotAllowed), "{text}");
        }
        for text in
            ["", "example.com", "/hooks", "https://", "https://exa mple.com", "https://[::1", "https://256.256.256.256"]
        {
            assert_eq!(code(text), Some(Code::ValidationFailed), "{text}");
        }
    }

    #[test]
    fn allowed_networks_are_permitted_over_http_and_https_and_others_are_not() {
        let allowed = ["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let is_allowed = |text: &str| parse(text, &allowed).is_ok();
        for text in [
            "http://127.0.0.1:9000/x",
            "https://127.0.0.1",
            "http://[fd12::1]",
            "http://[::ffff:127.0.0.1]",
            "http://receiver.internal:80",
        ] {
            assert!(is_allowed(text), "{text}");
        }
        for text in ["http://8.8.8.8", "http://10.0.0.1", "https://10.0.0.1", "http://[fe80::1]", "http://u@127.0.0.1"]
        {
            assert!(!is_allowed(text), "{text}");
        }
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(
            !is_permitted(address("8.8.8.8"), "http", &allowed),
            "http to a name that resolves to a public address"
        );
        assert!(is_permitted(address("8.8.8.8"), "https", &allowed));
    }
}
