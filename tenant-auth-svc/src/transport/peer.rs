//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

/// Who is at the other end of a connection: an extension of each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// The names in its certificate, if it has shown one that the client CA has signed.
    pub certificate: Option<Arc<CertificateNames>>,
}

/// The names in a verified client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// URIs, among them SPIFFE ids.
    pub uris: Vec<String>,
}
