//! Networks from which a key may be used, and addresses of customers.
//!
//! The Rust client compiles the same source file, so its near-cache decides like the service.

// With an explicit path, because this file is also a module of the Rust client.
#[path = "network/trusted_proxies.rs"]
mod trusted_proxies;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

pub use self::trusted_proxies::TrustedProxies;

/// The address of a customer, as the caller of the service sees it. An IPv4-mapped IPv6 address is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

/// Why a text is not an address. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be one IPv4 or IPv6 address, such as 192.0.2.7 or 2001:db8::7, with or without a port")]
pub struct InvalidAddress;

impl ClientAddress {
    /// Maximum length of a text, in bytes: longer than any address with a port and the name of an interface.
    pub const MAX_LEN: usize = 128;

    /// Parses an IPv4 or IPv6 address. A port and a zone are ignored: `192.0.2.7:443`, `[2001:db8::7]:443`, `fe80::7%eth0`.
    ///
    /// # Errors
    /// When the text is anything else, has leading zeros in an IPv4 address, or is longer than [`Self::MAX_LEN`].
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidAddress);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or(InvalidAddress)?;
            if !after.is_empty() && !after.strip_prefix(':').is_some_and(is_port) {
                return Err(InvalidAddress);
            }
            return parse_ipv6(address);
        }
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => parse_ipv6(text),
            Some((address, port)) if is_port(port) => parse_ipv4(address),
            Some(_) => Err(InvalidAddress),
            None => parse_ipv4(text),
        }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_ipv4(text: &str) -> Result<ClientAddress, InvalidAddress> {
    text.parse().map(|address| ClientAddress(IpAddr::V4(address))).map_err(|_| InvalidAddress)
}

fn parse_ipv6(text: &str) -> Result<ClientAddress, InvalidAddress> {
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic()) => {
            address
        }
        Some(_) => return Err(InvalidAddress),
        None => text,
    };
    let address: Ipv6Addr = address.parse().map_err(|_| InvalidAddress)?;
    Ok(IpAddr::V6(address).into())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Why a text is not a network, or a list of networks is not accepted. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidNetwork {
    /// It is not a network.
    #[error("must be a network in CIDR notation, such as 203.0.113.0/24 or 2001:db8::/32, or an address")]
    Malformed,
    /// The address of the network has bits set that do not belong to the network.
    #[error("has bits set after its prefix: write {0}, or the address alone")]
    HostBits(IpNet),
    /// There are more networks than [`AllowedNetworks::MAX`].
    #[error("must list at most {} networks", AllowedNetworks::MAX)]
    TooMany,
}

/// The networks from which a key may be used: all addresses if there are none. Sorted and without duplicates.
///
/// A network contains only addresses of its own family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Option<Arc<Vec<IpNet>>>);

/// Whether an address is in one of the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// It is, or there are no networks.
    Allowed,
    /// There are networks, and the address is unknown.
    Required,
    /// It is in none of them.
    NotAllowed,
}

impl AllowedNetworks {
    /// Maximum number of networks.
    pub const MAX: usize = 32;

    /// All addresses.
    pub const EVERYWHERE: Self = Self(None);

    /// Parses networks in CIDR notation. An address alone is a network of one address.
    ///
    /// # Errors
    /// The index of the first invalid network; that of the last allowed one if there are too many.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, (usize, InvalidNetwork)> {
        if texts.len() > Self::MAX {
            return Err((Self::MAX, InvalidNetwork::TooMany));
        }
        let parse = |(index, text): (usize, &T)| parse_network(text.as_ref()).map_err(|error| (index, error));
        let mut networks = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        networks.sort_unstable();
        networks.dedup();
        Ok(if networks.is_empty() { Self::EVERYWHERE } else { Self(Some(Arc::new(networks))) })
    }

    /// Checks the address of a request; `None` if it is unknown.
    #[must_use]
    pub fn check(&self, address: Option<ClientAddress>) -> AddressCheck {
        match (&self.0, address) {
            (None, _) => AddressCheck::Allowed,
            (Some(_), None) => AddressCheck::Required,
            (Some(networks), Some(ClientAddress(address))) => {
                if networks.iter().any(|network| network.contains(&address)) {
                    AddressCheck::Allowed
                } else {
                    AddressCheck::NotAllowed
                }
            }
        }
    }

    /// Returns the networks in CIDR notation, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter().flat_map(|networks| networks.iter())
    }

    /// Returns the size of the networks in memory, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // The list is behind a pointer, with its counts of references.
        let list = self.0.as_ref().map_or(0, |_| size_of::<Vec<IpNet>>() + 2 * size_of::<usize>());
        list + self.iter().map(size_of_val).sum::<usize>()
    }

    /// Returns whether there are no networks: all addresses are allowed.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.0.is_none()
    }
}

fn parse_network(text: &str) -> Result<IpNet, InvalidNetwork> {
    // Not by the parser of `IpNet`, which accepts leading zeros: they may mean octal digits.
    let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
    let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Malformed)?;
    let network = match len {
        None => address.into(),
        Some(len) if !len.bytes().all(|byte| byte.is_ascii_digit()) => return Err(InvalidNetwork::Malformed),
        Some(len) => {
            let len = len.parse().map_err(|_| InvalidNetwork::Malformed)?;
            IpNet::new(address, len).map_err(|_| InvalidNetwork::Malformed)?
        }
    };
    let canonical = canonical_network(network);
    if canonical.trunc() == canonical {
        Ok(canonical)
    } else {
        Err(InvalidNetwork::HostBits(canonical.trunc()))
    }
}

/// Returns a network of IPv4-mapped IPv6 addresses as a network of IPv4 addresses, like the addresses themselves.
fn canonical_network(network: IpNet) -> IpNet {
    const MAPPED_PREFIX_LEN: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED_PREFIX_LEN));
    mapped.and_then(|(address, len)| Ipv4Net::new(address, len).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> AllowedNetworks {
        AllowedNetworks::parse(texts).unwrap()
    }

    fn address(text: &str) -> ClientAddress {
        ClientAddress::parse(text).unwrap_or_else(|_| panic!("{text} is an address"))
    }

    #[test]
    fn address_is_parsed_without_port_and_zone() {
        let forms = [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("2001:DB8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:65535", "2001:db8::7"),
            ("fe80::7%eth0", "fe80::7"),
            ("[fe80::7%eth0]:443", "fe80::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:c000:207]:443", "192.0.2.7"),
            ("::", "::"),
        ];
        for (text, expected) in forms {
            assert_eq!(address(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_addresses() {
        let long = format!("fe80::7%{}", "x".repeat(200));
        let others = [
            "",
            " ",
            "example.com",
            "192.0.2",
            "192.0.2.256",
            "192.0.02.7",
            "192.0.2.0/24",
            " 192.0.2.7",
            "192.0.2.7 ",
            "192.0.2.7:",
            "192.0.2.7:port",
            "192.0.2.7:65536",
            "192.0.2.7:+80",
            "192.0.2.7%eth0",
            "[192.0.2.7]",
            "[2001:db8::7",
            "2001:db8::7]",
            "[2001:db8::7]443",
            "[2001:db8::7]:",
            "fe80::7%",
            "fe80::7%a b",
            "2001:db8::g",
            "192.0.2.7, 192.0.2.8",
            "::ffff:192.0.2.7:443:",
            "[[::1]]",
            "3232235777",
            "0x7f.1",
            &long,
        ];
        for text in others {
            assert_eq!(ClientAddress::parse(text), Err(InvalidAddress), "{text:?}");
        }
    }

    #[test]
    fn networks_are_canonical_sorted_and_unique() {
        let list = [
            "2001:DB8::/32",
            "198.51.100.7",
            "10.0.0.0/8",
            "::ffff:10.0.0.0/104",
            "::ffff:198.51.100.7",
            "::1",
        ];
        let texts: Vec<_> = networks(&list).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "198.51.100.7/32", "::1/128", "2001:db8::/32"]);
        assert_eq!(networks(&[]), AllowedNetworks::EVERYWHERE);
    }

    #[test]
    fn invalid_network_is_named_by_its_index_and_fix() {
        let error = |texts: &[&str]| {
            let (index, error) = AllowedNetworks::parse(texts).unwrap_err();
            (index, error.to_string())
        };
        assert_eq!(
            error(&["10.0.0.0/8", "10.1.2.3/8"]),
            (1, "has bits set after its prefix: write 10.0.0.0/8, or the address alone".to_owned())
        );
        let malformed = InvalidNetwork::Malformed.to_string();
        for text in
            ["", "10.0.0.0/33", "10.0.0.0/", "example.com", "fe80::1%eth0", "10.0.0.1:80", "010.0.0.0/8"]
        {
            assert_eq!(error(&[text]), (0, malformed.clone()), "{text}");
        }
        assert_eq!(AllowedNetworks::parse(&["::1"; 33]), Err((32, InvalidNetwork::TooMany)));
    }

    #[test]
    fn address_is_allowed_in_its_networks_only() {
        let list = networks(&["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
        let check = |text| list.check(Some(address(text)));
        for inside in ["192.0.2.0", "192.0.2.255", "2001:db8:ffff::1", "198.51.100.7", "::ffff:192.0.2.1"] {
            assert_eq!(check(inside), AddressCheck::Allowed, "{inside}");
        }
        for outside in ["192.0.1.255", "192.0.3.0", "2001:db9::", "198.51.100.8", "::192.0.2.1"] {
            assert_eq!(check(outside), AddressCheck::NotAllowed, "{outside}");
        }
        assert_eq!(list.check(None), AddressCheck::Required);
        assert_eq!(AllowedNetworks::EVERYWHERE.check(None), AddressCheck::Allowed);
    }

    #[test]
    fn network_contains_no_address_of_the_other_family() {
        assert_eq!(networks(&["::/0"]).check(Some(address("192.0.2.1"))), AddressCheck::NotAllowed);
        assert_eq!(networks(&["0.0.0.0/0"]).check(Some(address("2001:db8::1"))), AddressCheck::NotAllowed);
        assert_eq!(networks(&["0.0.0.0/0"]).check(Some(address("::ffff:192.0.2.1"))), AddressCheck::Allowed);
    }
}
