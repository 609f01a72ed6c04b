//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

use http::Request;
use hyper::body::Incoming;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// The names in its certificate, if it has shown one that the client CA has signed.
    pub certificate: Option<Arc<CertificateNames>>,
}

/// A request, and who sent it.
#[derive(Debug)]
pub struct PeerRequest {
    /// Who.
    pub peer: Peer,
    /// What.
    pub request: Request<Incoming>,
}

impl PeerRequest {
    /// The request with the peer among its extensions. Apart until then: they take memory of their own, and most requests
    /// are answered without it.
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
