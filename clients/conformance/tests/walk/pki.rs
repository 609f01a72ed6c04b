//! Creates certificates in files.

use std::{net::IpAddr, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

/// A certificate authority that signs certificates and stores them in its own folder.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate and its key.
pub(crate) struct CertificatePair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (folder, key) = (tempfile::tempdir()?, KeyPair::generate()?);
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "walk");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder })
    }

    /// Returns the path of its own certificate.
    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem")
    }

    /// Signs a certificate for a name or an address.
    pub(crate) fn sign(&self, name: &str) -> anyhow::Result<CertificatePair> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into()?),
        }];
        let file = name.replace(':', "_");
        let pair = CertificatePair {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&pair.certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        std::fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }

    fn path(&self, file: &str) -> String {
        let folder: &Path = self.folder.path();
        folder.join(file).display().to_string()
    }
}

impl CertificatePair {
    /// Returns the settings of a replica that presents it.
    pub(crate) fn settings(&self) -> crate::stage::Variables {
        let values =
            [("TENANT_AUTH_TLS_CERT_FILE", &self.certificate), ("TENANT_AUTH_TLS_KEY_FILE", &self.key)];
        values.map(|(name, value)| (name.to_owned(), value.clone())).into()
    }
}
