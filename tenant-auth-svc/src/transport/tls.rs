//! Certificates: ours, and those that callers show.

mod dates;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use self::dates::{FirstToExpire, first_private_root_to_expire};
use super::peer::CertificateNames;

/// Where certificates are. All PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and after it those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots of the certificates that callers may show.
    pub client_ca: Option<PathBuf>,
}

/// Why certificates cannot be used. Never holds a key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that is not there, or not PEM.
    #[error("cannot read {what} from {path}: {reason}")]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate and the key do not belong together, or are of a kind that cannot be used.
    #[error("the certificate {certificate} cannot be used with the key {key}: {source}")]
    Pair {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The roots cannot be used.
    #[error("the client CA in {path} cannot be used: {reason}")]
    ClientCa {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl TlsFiles {
    /// Reads them, and makes sure that they belong together. It compares no dates: a clock may be wrong when a machine starts, and a
    /// service without its certificate could not be given a new one.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(&self) -> Result<LoadedTls, TlsError> {
        let chain = read_certificates(&self.certificate, "a certificate")?;
        let server = first_to_expire(&self.certificate, &chain)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::File {
            what: "a private key",
            path: self.key.display().to_string(),
            reason: error.to_string(),
        })?;
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.display().to_string(),
            key: self.key.display().to_string(),
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let (builder, client_ca) = match &self.client_ca {
            Some(path) => {
                let roots = read_certificates(path, "a client CA")?;
                let first = first_to_expire(path, &roots)?;
                (builder.with_client_cert_verifier(client_verifier(path, roots, provider)?), Some(first))
            }
            None => (builder.with_no_client_auth(), None),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(LoadedTls { config: Arc::new(config), server, client_ca })
    }

    /// Every file there is.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).map(PathBuf::as_path)
    }
}

/// What the files held.
#[derive(Clone, Debug)]
pub struct LoadedTls {
    config: Arc<ServerConfig>,
    /// Of the server's certificate and those between it and the root, the one that expires first.
    pub server: FirstToExpire,
    /// Of the roots of callers' certificates, the one that expires first. rustls does not compare a root's dates: what ends
    /// with a root is what it has signed.
    pub client_ca: Option<FirstToExpire>,
}

fn first_to_expire(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<FirstToExpire, TlsError> {
    let failed = |reason| TlsError::File { what: "a certificate", path: path.display().to_string(), reason };
    let found = dates::first_to_expire(certificates)
        .map_err(|(number, error)| failed(format!("certificate {number} in it is no X.509: {error}")))?;
    found.ok_or_else(|| failed("there is none in it".to_owned()))
}

fn read_certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::File { what, path: path.display().to_string(), reason };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("there is none in it".to_owned())) } else { Ok(found) }
}

/// A caller need not show a certificate: it may have a token instead. What it shows has to be good.
fn client_verifier(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let failed = |reason: String| TlsError::ClientCa { path: path.display().to_string(), reason };
    let mut roots = RootCertStore::empty();
    for root in certificates {
        roots.add(root).map_err(|error| failed(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// The certificates in force. New connections use what was put here last; those that are open stay as they are.
#[derive(Debug)]
pub struct Certificates(ArcSwap<LoadedTls>);

impl Certificates {
    /// Begins with these.
    #[must_use]
    pub fn new(loaded: LoadedTls) -> Self {
        Self(ArcSwap::from_pointee(loaded))
    }

    /// Uses these from now on.
    pub fn replace(&self, loaded: LoadedTls) {
        self.0.store(Arc::new(loaded));
    }

    /// Those in force.
    #[must_use]
    pub fn current(&self) -> Arc<LoadedTls> {
        self.0.load_full()
    }

    /// Agrees with a peer on encryption.
    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.load().config);
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// The names in the certificate that the peer has shown, if any. It was verified in the handshake.
pub(super) fn peer_certificate_names(stream: &TlsStream<TcpStream>) -> Option<Arc<CertificateNames>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
    Some(Arc::new(CertificateNames {
        dns: owned(&mut certificate.valid_dns_names()),
        uris: owned(&mut certificate.valid_uri_names()),
    }))
}
