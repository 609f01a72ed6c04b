//! How `https://` endpoints are verified.

use std::fmt;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Roots and certificates for `https://` endpoints; with the machine's own roots and no certificate unless set.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Tls {
    /// The machine's own roots.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these roots (PEM) instead of the machine's own. May be called again to add more.
    pub fn root(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Certificate::from_pem(pem));
        self
    }

    /// Shows this certificate (PEM, with its chain) to the service, which belongs to this private key (PEM).
    pub fn identity(mut self, certificate: impl AsRef<[u8]>, private_key: impl AsRef<[u8]>) -> Self {
        self.identity = Some(Identity::from_pem(certificate, private_key));
        self
    }

    pub(crate) fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new();
        let config = match self.roots.as_slice() {
            [] => config.with_native_roots(),
            roots => config.ca_certificates(roots.iter().cloned()),
        };
        match &self.identity {
            Some(identity) => config.identity(identity.clone()),
            None => config,
        }
    }
}

/// Without the private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}
