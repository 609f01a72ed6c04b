//! The certificates of the server and of its callers.

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

/// The paths of the certificate files, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of client certificates.
    pub client_ca: Option<PathBuf>,
}

/// The reason why certificates are invalid. Never contains a key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is missing or not PEM.
    #[error("cannot read {what} from {path}: {reason}")]
    File {
        /// What the file should contain.
        what: &'static str,
        /// The path.
        path: String,
        /// The error.
        reason: String,
    },
    /// The certificate and the key do not match, or their type is not supported.
    #[error("the certificate {certificate} does not work with the key {key}: {source}")]
    Pair {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// The error.
        source: rustls::Error,
    },
    /// The roots of client certificates are invalid.
    #[error("invalid client CA in {path}: {reason}")]
    ClientCa {
        /// The file.
        path: String,
        /// The error.
        reason: String,
    },
}

impl TlsFiles {
    /// Reads the files and checks that they match. It compares no dates: a clock may be wrong when a machine
    /// starts, and a server that refuses to start could not reload a new certificate.
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
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(LoadedTls { config: Arc::new(config), http1: Arc::new(http1), server, client_ca })
    }

    /// Returns the paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).map(PathBuf::as_path)
    }
}

/// The content of the files.
#[derive(Clone, Debug)]
pub struct LoadedTls {
    config: Arc<ServerConfig>,
    /// The same for HTTP/1.1.
    http1: Arc<ServerConfig>,
    /// The one of the server certificate and its intermediates that expires first.
    pub server: FirstToExpire,
    /// The one of the roots of client certificates that expires first. rustls does not compare the dates of a
    /// root: the certificates that it has signed end with it.
    pub client_ca: Option<FirstToExpire>,
}

fn first_to_expire(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<FirstToExpire, TlsError> {
    let failed = |reason| TlsError::File { what: "a certificate", path: path.display().to_string(), reason };
    let found = dates::first_to_expire(certificates).map_err(|(number, error)| {
        failed(format!("certificate {number} of the file is not X.509: {error}"))
    })?;
    found.ok_or_else(|| failed("the file contains none".to_owned()))
}

fn read_certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::File { what, path: path.display().to_string(), reason };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("the file contains none".to_owned())) } else { Ok(found) }
}

/// Creates the verifier of client certificates. A certificate is optional, because a caller may send a token
/// instead. A certificate that is presented must be valid.
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

/// The current certificates. New connections use the latest ones; open connections are unaffected.
#[derive(Debug)]
pub struct Certificates(ArcSwap<LoadedTls>);

impl Certificates {
    /// Starts with these certificates.
    #[must_use]
    pub fn new(loaded: LoadedTls) -> Self {
        Self(ArcSwap::from_pointee(loaded))
    }

    /// Replaces the certificates.
    pub fn replace(&self, loaded: LoadedTls) {
        self.0.store(Arc::new(loaded));
    }

    /// Returns the current certificates.
    #[must_use]
    pub fn current(&self) -> Arc<LoadedTls> {
        self.0.load_full()
    }

    /// Performs the TLS handshake of an HTTP/1.1 connection.
    pub(super) async fn handshake_http1(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.load().http1);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Performs the TLS handshake.
    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.load().config);
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// Returns the names in the peer's certificate, if any. The handshake has verified it.
pub(super) fn peer_certificate_names(stream: &TlsStream<TcpStream>) -> Option<Arc<CertificateNames>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
    Some(Arc::new(CertificateNames {
        dns: owned(&mut certificate.valid_dns_names()),
        uris: owned(&mut certificate.valid_uri_names()),
    }))
}
