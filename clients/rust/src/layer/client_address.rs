//! Finds the address of the customer of a request.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{Extensions, HeaderMap, HeaderName};

use crate::{ClientAddress, network::TrustedProxies};

/// Reads the address of the peer from the extensions of a request.
pub(crate) type PeerAddress = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;

/// The header in which most proxies forward the addresses that they saw.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where the address of the customer is read.
#[derive(Clone)]
pub(crate) struct ClientAddressSource {
    pub(crate) peer: PeerAddress,
    pub(crate) proxies: TrustedProxies,
    pub(crate) header: HeaderName,
}

impl Default for ClientAddressSource {
    fn default() -> Self {
        Self { peer: Arc::new(|_| None), proxies: TrustedProxies::default(), header: FORWARDED_FOR }
    }
}

impl fmt::Debug for ClientAddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAddressSource")
            .field("proxies", &self.proxies)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl ClientAddressSource {
    /// Returns the address of the customer; `None` if it is unknown.
    pub(crate) fn read(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<ClientAddress> {
        let peer = (self.peer)(extensions)?.into();
        // A line that is not text hides an address, so it counts as an invalid one.
        let lines: Vec<_> =
            headers.get_all(&self.header).iter().map(|line| line.to_str().unwrap_or_default()).collect();
        self.proxies.client_of(peer, lines.iter().flat_map(|line| line.split(',')))
    }
}
