//! TLS settings: how the service is verified, and the client certificate.

use std::{fmt, fs, path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    sign::CertifiedKey,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use zeroize::Zeroizing;

use crate::{Error, options::setup_error};

/// TLS settings. The defaults are the system's root certificates and no client certificate.
///
/// Files are read at once, and again for every new connection. If a file is then invalid, the previous
/// content stays in use.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    roots: Vec<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
}

#[derive(Clone)]
enum Pem {
    Text(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

impl Tls {
    /// Returns the defaults: the system's root certificates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these root certificates (PEM) instead of the system's. May be called again to add more.
    pub fn root(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Pem::from_text(pem));
        self
    }

    /// Trusts the root certificates in this file (PEM) instead of the system's. May be called again to add
    /// more.
    pub fn root_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// Authenticates with this client certificate (PEM, with its chain) and its private key (PEM).
    pub fn identity(mut self, certificate: impl AsRef<[u8]>, private_key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((Pem::from_text(certificate), Pem::from_text(private_key)));
        self
    }

    /// Authenticates with a client certificate and a private key from two files.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(private_key.into())));
        self
    }

    /// Sets the name in the certificate of the service, if it is not the host of the endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Returns whether any setting is a file, whose content may change.
    pub(crate) fn has_files(&self) -> bool {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.roots.iter().chain(identity).any(|pem| matches!(pem, Pem::File(_)))
    }

    /// Reads all files and checks all settings.
    ///
    /// # Errors
    /// [`Error::Setup`] with the setting that is wrong.
    pub(crate) fn config(&self, host: &str) -> Result<ClientTlsConfig, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        if ServerName::try_from(name).is_err() {
            return Err(setup_error(format!(
                "Tls::server_name: invalid name {name:?}: must be a DNS name or an IP address"
            )));
        }
        let mut config = ClientTlsConfig::new().domain_name(name);
        if self.roots.is_empty() {
            config = config.with_native_roots();
        }
        for root in &self.roots {
            let (pem, origin) = root.read("Tls::root")?;
            let mut store = RootCertStore::empty();
            for certificate in certificates(&pem, &origin)? {
                store.add(certificate).map_err(|_| {
                    setup_error(format!("{origin}: a certificate is not a valid root certificate"))
                })?;
            }
            config = config.ca_certificate(Certificate::from_pem(&*pem));
        }
        let Some((certificate, key)) = &self.identity else { return Ok(config) };
        let (certificate, certificate_origin) = certificate.read("Tls::identity (certificate)")?;
        let (key, key_origin) = key.read("Tls::identity (private key)")?;
        let chain = certificates(&certificate, &certificate_origin)?;
        let private_key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| setup_error(format!("{key_origin}: no private key in PEM format")))?;
        let provider =
            CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
        CertifiedKey::from_der(chain, private_key, &provider).map_err(|_| {
            setup_error(format!("{key_origin}: the private key does not match the certificate"))
        })?;
        Ok(config.identity(Identity::from_pem(&*certificate, &*key)))
    }
}

impl Pem {
    fn from_text(pem: impl AsRef<[u8]>) -> Self {
        Self::Text(Zeroizing::new(pem.as_ref().to_vec()))
    }

    /// Returns the content and its origin, for error messages.
    fn read(&self, name: &str) -> Result<(Zeroizing<Vec<u8>>, String), Error> {
        match self {
            Self::Text(text) => Ok((text.clone(), name.to_owned())),
            Self::File(path) => {
                let origin = format!("{name} {}", path.display());
                let bytes = fs::read(path)
                    .map_err(|error| setup_error(format!("{origin}: cannot be read: {error}")))?;
                Ok((Zeroizing::new(bytes), origin))
            }
        }
    }
}

fn certificates(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| setup_error(format!("{origin}: invalid certificate")))?;
    if certificates.is_empty() {
        return Err(setup_error(format!(
            "{origin}: no certificate in PEM format; pass a path to root_file or identity_files"
        )));
    }
    Ok(certificates)
}

/// Omits the private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = include_str!("../tests/fake/tls/ca.pem");
    const CERTIFICATE: &str = include_str!("../tests/fake/tls/client.pem");
    const KEY: &str = include_str!("../tests/fake/tls/client.key");
    const OTHER_KEY: &str = include_str!("../tests/fake/tls/server.key");

    #[test]
    fn invalid_roots_and_key_pairs_are_rejected_by_name() {
        let config = |tls: Tls| tls.config("host").map(|_| ());
        config(Tls::new().root(CA).identity(CERTIFICATE, KEY).server_name("other")).unwrap();
        for (tls, expected) in [
            (Tls::new().root("/etc/ssl/ca.pem"), "root_file"),
            (Tls::new().root(""), "no certificate"),
            (Tls::new().root(KEY), "no certificate"),
            (
                Tls::new().root("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "not a valid root",
            ),
            (Tls::new().root_file("/etc/passwd"), "/etc/passwd: no certificate"),
            (Tls::new().root_file("/nowhere.pem"), "/nowhere.pem: cannot be read"),
            (Tls::new().identity(CERTIFICATE, OTHER_KEY), "does not match the certificate"),
            (Tls::new().identity(KEY, KEY), "no certificate"),
            (Tls::new().identity(CERTIFICATE, CERTIFICATE), "no private key"),
            (Tls::new().identity_files("/nowhere.pem", "/nowhere.key"), "/nowhere.pem: cannot be read"),
            (Tls::new().root(CA).server_name("two\nlines"), "server_name"),
            (Tls::new().root(CA).server_name(""), "server_name"),
        ] {
            let error = config(tls).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
