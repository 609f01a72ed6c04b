//! TLS: trust, client certificates, and files that change.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tempfile::TempDir;
use tenant_auth_client::{Client, Error, Tls};
use tenant_auth_svc::server::RunningService;

use crate::harness::{Stopped, WAIT_TIMEOUT, until};

/// A certificate authority that writes its certificates to files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let (key, folder) = (KeyPair::generate().unwrap(), tempfile::tempdir().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a certificate with these names and its key, in files called after `name`.
    fn sign(&self, name: &str, names: Vec<SanType>) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let files = ["pem", "key"].map(|kind| self.path(&format!("{name}.{kind}")));
        fs::write(&files[0], params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    /// Starts a service with such a certificate. With `callers`, it also authenticates client certificates of
    /// this authority.
    async fn serve(
        &self,
        address: SocketAddr,
        names: Vec<SanType>,
        callers: Option<&str>,
    ) -> (RunningService, TempDir) {
        let [certificate, key] = self.sign("server", names).map(|path| path.display().to_string());
        let (ca, list) =
            (self.path("ca.pem").display().to_string(), self.path("callers.toml").display().to_string());
        let mut settings = vec![
            ("TENANT_AUTH_TLS_CERT_FILE", certificate.as_str()),
            ("TENANT_AUTH_TLS_KEY_FILE", key.as_str()),
        ];
        if let Some(callers) = callers {
            fs::write(&list, callers).unwrap();
            settings.extend([
                ("TENANT_AUTH_TLS_CLIENT_CA_FILE", ca.as_str()),
                ("TENANT_AUTH_CALLERS_FILE", &list),
            ]);
        }
        Stopped::new(address).start_with(&settings).await
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

async fn answers(endpoint: &str, tls: Tls) -> Result<(), Error> {
    let client =
        Client::builder(endpoint).tls(tls).timeout(WAIT_TIMEOUT).without_near_cache().connect_lazy()?;
    client.server_info().await.map(|_| ())
}

#[tokio::test]
async fn each_endpoint_is_verified_under_its_own_name() {
    let authority = Authority::new();
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let (first, _first_folder) =
        authority.serve((v4, 0).into(), vec![SanType::IpAddress(v4), dns("localhost")], None).await;
    let (second, _second_folder) = authority.serve((v6, 0).into(), vec![SanType::IpAddress(v6)], None).await;
    let tls = || Tls::new().root_file(authority.path("ca.pem"));
    let (first_address, second_address) = (first.address(), second.address());
    for endpoint in [
        first_address.to_string(),
        second_address.to_string(),
        format!("https://localhost:{}", first_address.port()),
    ] {
        assert_eq!(answers(&endpoint, tls()).await, Ok(()), "{endpoint}");
    }
    // Both endpoints are valid: if each is verified by its own name, no call fails after the first one stops.
    let client = Client::builder(format!("{first_address},{second_address}"))
        .tls(tls())
        .timeout(WAIT_TIMEOUT)
        .without_near_cache();
    let client = client.connect_lazy().unwrap();
    client.server_info().await.unwrap();
    first.stop().await;
    until(async || client.server_info().await.is_ok()).await;
    // Under another name the certificate is rejected.
    let error = answers(&second_address.to_string(), tls().server_name("localhost")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let other = Authority::new();
    let error =
        answers(&second_address.to_string(), Tls::new().root_file(other.path("ca.pem"))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn server_name_and_client_certificate_can_be_set() {
    let authority = Authority::new();
    let callers = "[[caller]]\nname = 'api'\nroles = ['validator']\ndns = ['api.internal']\n";
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let (running, _folder) = authority.serve(address, vec![dns("auth.internal")], Some(callers)).await;
    let [certificate, key] = authority.sign("api", vec![dns("api.internal")]);
    let (endpoint, ca) = (running.address().to_string(), fs::read(authority.path("ca.pem")).unwrap());
    let tls = || Tls::new().root(&ca).server_name("auth.internal");
    assert_eq!(answers(&endpoint, tls().identity_files(&certificate, &key)).await, Ok(()));
    let (certificate, key) = (fs::read(certificate).unwrap(), fs::read(key).unwrap());
    assert_eq!(answers(&endpoint, tls().identity(certificate, key)).await, Ok(()));
    assert!(answers(&endpoint, tls()).await.is_err());
}

#[tokio::test]
async fn tls_files_are_reread_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let (running, _first) = old.serve(address, vec![dns("localhost")], None).await;
    let address = running.address();
    let trusted = old.path("trusted.pem");
    fs::copy(old.path("ca.pem"), &trusted).unwrap();
    let client = Client::builder(format!("localhost:{}", address.port())).tls(Tls::new().root_file(&trusted));
    let client = client.timeout(WAIT_TIMEOUT).without_near_cache().connect().await.unwrap();
    running.stop().await;
    // In the middle of a replacement the file is empty: the previous content stays in use.
    fs::write(&trusted, "").unwrap();
    let (running, _second) = old.serve(address, vec![dns("localhost")], None).await;
    until(async || client.server_info().await.is_ok()).await;
    running.stop().await;
    fs::copy(new.path("ca.pem"), &trusted).unwrap();
    let (_running, _third) = new.serve(address, vec![dns("localhost")], None).await;
    until(async || client.server_info().await.is_ok()).await;
}
