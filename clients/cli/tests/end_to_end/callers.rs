//! A service that wants to know who calls, and one that encrypts.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tenant_auth_svc::{config::Settings, domain::access::TokenHash};

use crate::harness::{CommandOutput, Service};

/// What a service that knows its callers needs, and what they need.
pub(crate) struct CredentialFiles(TempDir);

impl CredentialFiles {
    /// `operator` and `meter` have tokens of their names; `operator` may show a certificate instead.
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

    /// Those, and a certificate each for the service and for `operator`.
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
        for (name, shown_name) in [("service", loopback), ("client", operator)] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = vec![shown_name];
            files.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    /// Leaves only `meter` on the list.
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

#[test]
fn token_file_identifies_the_caller() {
    let files = CredentialFiles::new();
    let service = Service::start_with("http://", |settings| files.callers(settings));
    let with = |name: &str| list(&service, &["--token-file", &files.path(name)]);
    let ran = with("operator");
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let ran = list(&service, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""));
    assert!(ran.stderr.contains("it needs --token-file"), "{}", ran.stderr);
    let ran = with("stranger");
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.contains("must list this token's hash"), "{}", ran.stderr);
    let ran = with("meter");
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.contains("admin") && ran.stderr.contains("callers file says"), "{}", ran.stderr);

    let ran = list(&service, &["--ca", &files.path("operator")]);
    assert_eq!(ran.code, 2);
    let ran = service.run(&["info", "--token-file", &files.path("meter"), "--json"], "");
    assert_eq!(ran.code, 0, "every known caller may ask what runs: {}", ran.stderr);
}

#[test]
fn tls_service_is_verified_and_certificate_identifies() {
    let files = CredentialFiles::with_certificates();
    let service = Service::start_with("https://", |settings| files.certificates(settings));
    let path = |name: &str| files.path(name);
    let (ca, token) = (path("ca.pem"), path("operator"));
    let (client, client_key, other_key) = (path("client.pem"), path("client.key"), path("service.key"));

    for shown in [&["--token-file", &*token][..], &["--cert", &client, "--cert-key", &client_key]] {
        let ran = list(&service, &[&["--ca", &*ca], shown].concat());
        assert_eq!(ran.code, 0, "{shown:?}: {}", ran.stderr);
    }
    let ran = list(&service, &["--ca", &ca]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);

    // Nobody else's roots will do.
    let strange = CredentialFiles::with_certificates();
    let ran = list(&service, &["--ca", &strange.path("ca.pem"), "--token-file", &token]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("with a certificate for this name that --ca"), "{}", ran.stderr);

    let ran = list(&service, &["--ca", &ca, "--cert", &client, "--cert-key", &other_key]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("--cert-key: {other_key}")), "{}", ran.stderr);

    let plain = format!("http://{}", service.endpoint.trim_start_matches("https://"));
    let ran = service.run(&["info", "--endpoint", &plain, "--ca", &ca], "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--ca is for https:// endpoints"), "{}", ran.stderr);
    let ran = service.run(&["info", "--endpoint", &plain, "--token-file", &token], "");
    assert_eq!(ran.code, 4);
}
