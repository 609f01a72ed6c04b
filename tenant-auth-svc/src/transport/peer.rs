//! The peer of a connection.

use std::{net::SocketAddr, sync::Arc};

use http::Request;
use hyper::body::Incoming;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The remote address.
    pub address: SocketAddr,
    /// The names in its client certificate, if it presented one that the client CA has signed.
    pub certificate: Option<Arc<CertificateNames>>,
}

/// A request with its peer.
#[derive(Debug)]
pub struct PeerRequest {
    /// The sender.
    pub peer: Peer,
    /// The request.
    pub request: Request<Incoming>,
}

impl PeerRequest {
    /// Returns the request with the peer in its extensions. They are separate until then, because extensions
    /// allocate, and most requests are answered without them.
    #[must_use]
    pub fn into_request(self) -> Request<Incoming> {
        let Self { peer, mut request } = self;
        request.extensions_mut().insert(peer);
        request
    }
}

/// The names in a verified client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// URIs, among them SPIFFE ids.
    pub uris: Vec<String>,
}
