//! Creates certificates, and clients that use them.

use std::{net::SocketAddr, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// A certificate authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct CertificatePair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("tests")
    }

    /// Creates an authority with this name. Anyone could choose the same name.
    pub(crate) fn named(name: &str) -> Self {
        Self::generate(name, |_| {})
    }

    /// Creates an authority whose own certificate is valid between two days.
    pub(crate) fn valid_between(from: Day, to: Day) -> Self {
        Self::generate("dated", |params| set_validity(params, from, to))
    }

    fn generate(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate with these names.
    pub(crate) fn sign(&self, names: Vec<SanType>) -> CertificatePair {
        self.sign_with(names, |_| {})
    }

    /// Signs a certificate for `localhost` that is valid between two days.
    pub(crate) fn server_certificate_between(&self, from: Day, to: Day) -> CertificatePair {
        self.sign_with(vec![dns("localhost")], |params| set_validity(params, from, to))
    }

    fn sign_with(&self, names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> CertificatePair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        CertificatePair { certificate, key: key.serialize_pem() }
    }

    /// Signs a certificate for `localhost`.
    pub(crate) fn server_certificate(&self) -> CertificatePair {
        self.sign(vec![dns("localhost")])
    }

    /// Writes its own certificate to a file.
    pub(crate) fn write(&self) -> CertificateFiles {
        CertificatePair { certificate: self.pem.clone(), key: String::new() }.write()
    }

    /// Returns a client configuration that trusts this authority and presents a certificate if one is given.
    pub(crate) fn connector(&self, shown: Option<&CertificatePair>) -> TlsConnector {
        self.connector_for(b"h2", shown)
    }

    /// The same, for one ALPN protocol.
    pub(crate) fn connector_for(&self, protocol: &[u8], shown: Option<&CertificatePair>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

/// A year, month and day; stands for midnight in UTC.
pub(crate) type Day = (i32, u8, u8);

/// Returns midnight of the day, in seconds since 1970.
pub(crate) fn midnight((year, month, day): Day) -> i64 {
    rcgen::date_time_ymd(year, month, day).unix_timestamp()
}

fn set_validity(params: &mut CertificateParams, from: Day, to: Day) {
    let [from, to] = [from, to].map(|(year, month, day)| rcgen::date_time_ymd(year, month, day));
    (params.not_before, params.not_after) = (from, to);
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(crate) fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// A certificate and its key in files that tests can rewrite.
pub(crate) struct CertificateFiles(TempDir);

impl CertificatePair {
    pub(crate) fn write(&self) -> CertificateFiles {
        let files = CertificateFiles(tempfile::tempdir().unwrap());
        std::fs::write(files.certificate(), &self.certificate).unwrap();
        std::fs::write(files.key(), &self.key).unwrap();
        files
    }

    /// Returns the certificate in its wire encoding (DER).
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

impl CertificateFiles {
    pub(crate) fn certificate(&self) -> String {
        self.0.path().join("certificate.pem").display().to_string()
    }

    pub(crate) fn key(&self) -> String {
        self.0.path().join("key.pem").display().to_string()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

/// Opens an encrypted connection.
pub(crate) async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect("localhost".try_into().unwrap(), stream).await
}

/// Returns a channel over one encrypted connection, which is open when this returns.
pub(crate) async fn channel(
    address: SocketAddr,
    connector: &TlsConnector,
) -> Result<Channel, tonic::transport::Error> {
    let connector = connector.clone();
    let connecting = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move { connect(address, &connector).await.map(TokioIo::new) }
    });
    // The connector encrypts, although the URL says `http`.
    Endpoint::from_static("http://localhost").connect_with_connector(connecting).await
}
