//! Addresses of customers, and the networks from which a key may be used.

#[allow(dead_code, unreachable_pub, reason = "the service uses more of this file")]
#[path = "../../../tenant-auth-svc/src/domain/network.rs"]
mod rule;

use self::rule::{AddressCheck, AllowedNetworks};
pub use self::rule::{ClientAddress, InvalidAddress};
use crate::{Error, Verdict, options::setup_error};

impl From<InvalidAddress> for Error {
    fn from(error: InvalidAddress) -> Self {
        Self::invalid_field("client_address", &error.to_string())
    }
}

/// The networks of a list in an answer. `None`: this client cannot read the list, so no address is allowed.
fn parse_answer(texts: &[String]) -> Option<AllowedNetworks> {
    AllowedNetworks::parse(texts).ok()
}

/// The networks of an answer: those of the key, and those of the key presented with a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AnswerNetworks([Option<AllowedNetworks>; 2]);

impl Default for AnswerNetworks {
    fn default() -> Self {
        Self([Some(AllowedNetworks::EVERYWHERE), Some(AllowedNetworks::EVERYWHERE)])
    }
}

impl AnswerNetworks {
    pub(crate) fn parse(of_key: &[String], of_presented_key: &[String]) -> Self {
        Self([parse_answer(of_key), parse_answer(of_presented_key)])
    }

    /// Returns whether all addresses are allowed.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.0.iter().all(|networks| networks.as_ref().is_some_and(AllowedNetworks::is_everywhere))
    }

    /// Returns the denial of an address, if it is denied.
    pub(crate) fn denial(&self, address: Option<ClientAddress>) -> Option<Verdict> {
        let check = |networks: &Option<AllowedNetworks>| match networks {
            Some(networks) => networks.check(address),
            None => AddressCheck::NotAllowed,
        };
        self.0.iter().map(check).find_map(|check| match check {
            AddressCheck::Allowed => None,
            AddressCheck::Required => Some(Verdict::AddressRequired),
            AddressCheck::NotAllowed => Some(Verdict::AddressNotAllowed),
        })
    }
}

/// The proxies whose forwarding header is trusted: none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(rule::TrustedProxies);

impl TrustedProxies {
    /// # Errors
    /// [`Error::Setup`] for a text that is not a network, or too many.
    pub(crate) fn parse<T: AsRef<str>>(networks: &[T]) -> Result<Self, Error> {
        rule::TrustedProxies::parse(networks).map(Self).map_err(|(index, error)| {
            let text = networks.get(index).map(AsRef::as_ref).unwrap_or_default();
            setup_error(format!("trusted_proxies: invalid network {text:?}: {error}"))
        })
    }

    /// Returns the address of the customer behind a peer: of the peer itself, unless it is a trusted proxy. `None` if the
    /// trusted proxy does not forward it.
    pub(crate) fn client_of<'a>(
        &self,
        peer: ClientAddress,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Option<ClientAddress> {
        if self.0.trusts(peer) { self.0.forwarded_client(forwarded) } else { Some(peer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::parse(text).unwrap()
    }

    #[test]
    fn unreadable_networks_of_an_answer_allow_no_address() {
        let networks = AnswerNetworks::parse(&["everywhere".to_owned()], &[]);
        assert!(!networks.is_everywhere());
        assert_eq!(networks.denial(Some(address("192.0.2.1"))), Some(Verdict::AddressNotAllowed));
    }

    #[test]
    fn both_keys_of_a_session_must_allow_the_address() {
        let list = |text: &str| vec![text.to_owned()];
        let networks = AnswerNetworks::parse(&list("192.0.2.0/24"), &list("192.0.2.0/28"));
        assert_eq!(networks.denial(Some(address("192.0.2.1"))), None);
        assert_eq!(networks.denial(Some(address("192.0.2.16"))), Some(Verdict::AddressNotAllowed));
        assert_eq!(networks.denial(None), Some(Verdict::AddressRequired));
        assert_eq!(AnswerNetworks::default().denial(None), None);
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8", "fd00::/8"]).unwrap();
        let client = |peer: &str, forwarded: &[&str]| {
            proxies.client_of(address(peer), forwarded.iter().copied()).map(|found| found.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(client("203.0.113.9", &["192.0.2.1"]), is("203.0.113.9"));
        assert_eq!(client("10.0.0.1", &["192.0.2.66", " 203.0.113.9\t"]), is("203.0.113.9"));
        assert_eq!(client("10.0.0.1", &["192.0.2.66", "203.0.113.9", "10.0.0.2"]), is("203.0.113.9"));
        assert_eq!(client("::ffff:10.0.0.1", &["2001:db8::9", "[fd00::1]:443"]), is("2001:db8::9"));
        assert_eq!(client("10.0.0.1", &[]), None);
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        let forwarded = ["192.0.2.1"].into_iter();
        let peer = address("10.0.0.1");
        assert_eq!(TrustedProxies::default().client_of(peer, forwarded.clone()), Some(peer));
        let none: [&str; 0] = [];
        assert_eq!(TrustedProxies::parse(&none).unwrap().client_of(peer, forwarded), Some(peer));
        let error = TrustedProxies::parse(&["10.0.0.1/8"]).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1/8") && error.contains("10.0.0.0/8"), "{error}");
    }
}
