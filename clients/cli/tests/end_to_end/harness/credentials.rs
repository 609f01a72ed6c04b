//! Files of a service that authenticates callers, and the credentials of its callers.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tenant_auth_svc::{config::Settings, domain::access::TokenHash};

use super::{CommandOutput, Service};

/// The files of a service with a callers file, and the credentials of its callers.
pub(crate) struct CredentialFiles(TempDir);

impl CredentialFiles {
    /// Creates token files named `operator` and `meter` for callers with these names; `operator` may use a
    /// certificate instead.
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let (operator, meter) = (TokenHash::of("operator"), TokenHash::of("meter"));
        files.write("operator", "operator\n");
        files.write("meter", "meter\n");
        files.write("stranger", "stranger\n");
        let callers = format!(
            "[[caller]]\nname = 'operator'\nroles = ['admin']\ndns = ['operator.internal']\n\
             token_sha256 = ['{operator}']\n\
             [[caller]]\nname = 'meter'\nroles = ['meter']\ntoken_sha256 = ['{meter}']\n"
        );
        files.write("callers.toml", &callers);
        files
    }

    /// Adds certificates for the service and for `operator`.
    pub(crate) fn with_certificates() -> Self {
        let files = Self::new();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        files.write("ca.pem", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let loopback = SanType::IpAddress("127.0.0.1".parse().unwrap());
        let operator = SanType::DnsName("operator.internal".try_into().unwrap());
        for (name, subject_name) in [("service", loopback), ("client", operator)] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = vec![subject_name];
            files.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    /// Leaves only `meter` in the callers file.
    pub(crate) fn remove_operator(&self) {
        let meter = TokenHash::of("meter");
        let callers = format!("[[caller]]\nname = 'meter'\nroles = ['meter']\ntoken_sha256 = ['{meter}']\n");
        self.write("callers.toml", &callers);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path: &Path = self.0.path();
        path.join(name).display().to_string()
    }

    pub(crate) fn callers(&self, settings: Settings) -> Settings {
        settings.with_flag("TENANT_AUTH_CALLERS_FILE", Some(self.path("callers.toml")))
    }

    pub(crate) fn certificates(&self, settings: Settings) -> Settings {
        self.callers(settings)
            .with_flag("TENANT_AUTH_TLS_CERT_FILE", Some(self.path("service.pem")))
            .with_flag("TENANT_AUTH_TLS_KEY_FILE", Some(self.path("service.key")))
            .with_flag("TENANT_AUTH_TLS_CLIENT_CA_FILE", Some(self.path("ca.pem")))
    }
}

pub(crate) fn list(service: &Service, options: &[&str]) -> CommandOutput {
    service.run(&[&["tenant", "list"], options].concat(), "")
}
