//! The proxies whose forwarding header is trusted.

use super::{AddressCheck, AllowedNetworks, ClientAddress, InvalidNetwork};

/// The networks of trusted proxies: none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Option<AllowedNetworks>);

impl TrustedProxies {
    /// Parses networks in CIDR notation, and addresses.
    ///
    /// # Errors
    /// The index of the first invalid network; that of the last allowed one if there are too many.
    pub fn parse<T: AsRef<str>>(networks: &[T]) -> Result<Self, (usize, InvalidNetwork)> {
        let parsed = AllowedNetworks::parse(networks)?;
        Ok(Self((!networks.is_empty()).then_some(parsed)))
    }

    /// Returns whether an address is that of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: ClientAddress) -> bool {
        self.0.as_ref().is_some_and(|networks| networks.check(Some(address)) == AddressCheck::Allowed)
    }

    /// Returns the address of the customer behind a trusted proxy: the last forwarded address that is not that of a trusted
    /// proxy, or the first one if all are. `None` if it is unknown, because a forwarded text on the way is not an address or
    /// there is none.
    pub fn forwarded_client<'a>(
        &self,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Option<ClientAddress> {
        let mut farthest = None;
        for text in forwarded.rev() {
            let address = ClientAddress::parse(text.trim_matches([' ', '\t'])).ok()?;
            if !self.trusts(address) {
                return Some(address);
            }
            farthest = Some(address);
        }
        farthest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_untrusted_forwarded_address_is_the_client() {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8", "fd00::/8"]).unwrap();
        let client = |forwarded: &[&str]| {
            proxies.forwarded_client(forwarded.iter().copied()).map(|found| found.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(client(&["192.0.2.66", " 203.0.113.9\t"]), is("203.0.113.9"));
        assert_eq!(client(&["192.0.2.66", "203.0.113.9", "10.0.0.2"]), is("203.0.113.9"));
        assert_eq!(client(&["2001:db8::9", "[fd00::1]:443"]), is("2001:db8::9"));
        assert_eq!(client(&["10.0.0.3", "10.0.0.2"]), is("10.0.0.3"));
        assert_eq!(client(&["203.0.113.9:5000"]), is("203.0.113.9"));
        assert_eq!(client(&["unknown", "10.0.0.2"]), None);
        assert_eq!(client(&["192.0.2.66", ""]), None);
        assert_eq!(client(&[]), None);
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        let peer = ClientAddress::parse("10.0.0.1").unwrap();
        let none: [&str; 0] = [];
        for proxies in [TrustedProxies::default(), TrustedProxies::parse(&none).unwrap()] {
            assert!(!proxies.trusts(peer));
        }
        assert_eq!(TrustedProxies::parse(&["::1", "10.0.0.1/8"]).unwrap_err().0, 1);
    }
}
