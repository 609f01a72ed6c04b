//! TLS: certificates that change, and callers that present one.

use std::io;

use tenant_auth_proto::v1::{
    self, validation_service_client::ValidationServiceClient, watch_service_client::WatchServiceClient,
};
use tenant_auth_svc::{
    config::Settings,
    domain::{access::TokenHash, clock::SystemClock},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    TestDatabase, TestService, http_request,
    pki::{Authority, CertificateFiles, CertificatePair, channel, connect, dns, uri},
    wire::call_path,
};

const INFO: &str = "/tenantauth.v1.InfoService/GetServerInfo";
const SPIFFE: &str = "spiffe://example.org/ns/production/sa/mcp";

/// A service with this authority's certificate in its own files.
struct EncryptedService {
    authority: Authority,
    files: CertificateFiles,
    service: TestService,
}

fn settings_with_certificate(settings: Settings, files: &CertificateFiles) -> Settings {
    settings
        .with_flag("TENANT_AUTH_TLS_CERT_FILE", Some(files.certificate()))
        .with_flag("TENANT_AUTH_TLS_KEY_FILE", Some(files.key()))
}

impl EncryptedService {
    async fn start() -> Self {
        let authority = Authority::new();
        let files = authority.server_certificate().write();
        let settings = settings_with_certificate(TestDatabase::embedded().settings(), &files)
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
        let service = TestService::start_with(settings, SystemClock::shared()).await;
        Self { authority, files, service }
    }

    /// Starts a service that accepts client certificates of the authority: `api` by DNS name or token, `mcp`
    /// by SPIFFE id.
    async fn start_mutual() -> Self {
        let authority = Authority::new();
        let (files, ca) = (authority.server_certificate().write(), authority.write());
        let callers = files.folder().join("callers.toml");
        let token = TokenHash::of("tac_api");
        let text = format!(
            "[[caller]]\nname = 'api'\nroles = ['meter']\ndns = ['api.internal']\ntoken_sha256 = ['{token}']\n\
             [[caller]]\nname = 'mcp'\nroles = ['auditor']\nuri = ['{SPIFFE}']\n"
        );
        std::fs::write(&callers, text).unwrap();
        let settings = settings_with_certificate(TestDatabase::embedded().settings(), &files)
            .with_flag("TENANT_AUTH_TLS_CLIENT_CA_FILE", Some(ca.certificate()))
            .with_flag("TENANT_AUTH_CALLERS_FILE", Some(callers.display().to_string()));
        let service = TestService::start_with(settings, SystemClock::shared()).await;
        Self { authority, files, service }
    }

    async fn channel(&self, shown: Option<&CertificatePair>) -> Channel {
        channel(self.service.running.address(), &self.authority.connector(shown)).await.unwrap()
    }

    /// Returns the certificate that a new connection receives.
    async fn presented_certificate(&self) -> Vec<u8> {
        let stream = connect(self.service.running.address(), &self.authority.connector(None)).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        session.peer_certificates().unwrap()[0].to_vec()
    }

    async fn files_status_line(&self) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let reported = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        reported.lines().find(|line| line.starts_with("files ")).unwrap().to_owned()
    }

    fn write(&self, pair: &CertificatePair) {
        std::fs::write(self.files.certificate(), &pair.certificate).unwrap();
        std::fs::write(self.files.key(), &pair.key).unwrap();
    }
}

fn status_code(answer: Result<(), Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn new_certificate_applies_to_new_connections_only() {
    let encrypted = EncryptedService::start().await;
    let before = encrypted.presented_certificate().await;
    let channel = encrypted.channel(None).await;
    let mut watch = WatchServiceClient::new(channel.clone());
    let mut watching = watch.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();

    let new = encrypted.authority.server_certificate();
    encrypted.write(&new);
    encrypted.service.running.reloader()();
    assert_eq!(encrypted.presented_certificate().await, new.der().to_vec());
    assert_ne!(before, new.der().to_vec());
    assert!(watching.message().await.unwrap().is_some(), "an open stream continues");
    call_path(&channel, INFO, None).await.unwrap();
    assert_eq!(encrypted.files_status_line().await, "files     in effect");
}

#[tokio::test]
async fn unusable_certificates_keep_old_ones_in_use() {
    let encrypted = EncryptedService::start().await;
    let (before, reload) = (encrypted.presented_certificate().await, encrypted.service.running.reloader());
    let (new, other) = (encrypted.authority.server_certificate(), encrypted.authority.server_certificate());
    let mismatch = CertificatePair { key: other.key, ..new.clone() };
    let empty = CertificatePair { certificate: String::new(), ..new.clone() };
    let garbage = CertificatePair { key: "-----BEGIN PRIVATE KEY-----".to_owned(), ..new.clone() };
    for bad in [mismatch, empty, garbage] {
        encrypted.write(&bad);
        reload();
        assert_eq!(encrypted.presented_certificate().await, before);
        let reported = encrypted.files_status_line().await;
        assert_eq!(
            reported,
            "files     reload refused for certificates; the previous content stays in effect; the log says why"
        );
    }
    encrypted.write(&new);
    reload();
    assert_eq!(encrypted.presented_certificate().await, new.der().to_vec());
    assert_eq!(encrypted.files_status_line().await, "files     in effect");
}

#[tokio::test]
async fn certificate_name_identifies_caller() {
    let mutual = EncryptedService::start_mutual().await;
    let usage = "/tenantauth.v1.UsageService/RecordUsage";
    let tenants = "/tenantauth.v1.AdminService/ListTenants";
    let api = mutual.authority.sign(vec![dns("other.internal"), dns("API.internal")]);
    let channel = mutual.channel(Some(&api)).await;
    assert_eq!(
        status_code(call_path(&channel, usage, None).await),
        Code::InvalidArgument,
        "the caller may record usage, and the message is empty"
    );
    assert_eq!(status_code(call_path(&channel, tenants, None).await), Code::PermissionDenied);

    let mcp = mutual.authority.sign(vec![uri(SPIFFE)]);
    let channel = mutual.channel(Some(&mcp)).await;
    assert_eq!(status_code(call_path(&channel, tenants, None).await), Code::Ok);
    assert_eq!(status_code(call_path(&channel, usage, None).await), Code::PermissionDenied);
    // If a token is sent, it decides, whether it is valid or not.
    assert_eq!(status_code(call_path(&channel, usage, Some("Bearer tac_api")).await), Code::InvalidArgument);
    assert_eq!(
        status_code(call_path(&channel, tenants, Some("Bearer tac_api")).await),
        Code::PermissionDenied
    );
    assert_eq!(
        status_code(call_path(&channel, tenants, Some("Bearer tac_old")).await),
        Code::Unauthenticated
    );

    let channel = mutual.channel(None).await;
    assert_eq!(
        status_code(call_path(&channel, INFO, Some("Bearer tac_api")).await),
        Code::Ok,
        "a token is enough"
    );
    assert_eq!(status_code(call_path(&channel, INFO, None).await), Code::Unauthenticated);
}

#[tokio::test]
async fn stream_ends_when_its_certificate_is_delisted() {
    let mutual = EncryptedService::start_mutual().await;
    let list = |dns: &str| {
        let text = format!("[[caller]]\nname = 'api'\nroles = ['validator']\ndns = ['{dns}']\n");
        std::fs::write(mutual.files.folder().join("callers.toml"), text).unwrap();
        mutual.service.running.reloader()();
    };
    list("api.internal");
    let shown = mutual.authority.sign(vec![dns("api.internal")]);
    let mut client = ValidationServiceClient::new(mutual.channel(Some(&shown)).await);
    let queries = tokio_stream::pending::<v1::StreamValidateKeysRequest>();
    let mut answers = client.stream_validate_keys(queries).await.unwrap().into_inner();
    list("other.internal");
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn unlisted_or_ambiguous_certificate_is_unauthenticated() {
    let mutual = EncryptedService::start_mutual().await;
    let both_names = vec![dns("api.internal"), uri(SPIFFE)];
    let nearly =
        vec![dns("xapi.internal"), dns("api.internal.example"), uri("spiffe://example.org/ns/production")];
    for names in [both_names, nearly, vec![dns("localhost")], vec![]] {
        let channel = mutual.channel(Some(&mutual.authority.sign(names.clone()))).await;
        assert_eq!(status_code(call_path(&channel, INFO, None).await), Code::Unauthenticated, "{names:?}");
        assert_eq!(status_code(call_path(&channel, INFO, Some("Bearer tac_api")).await), Code::Ok);
    }
}

/// Returns the error that ends a connection before its first request.
async fn handshake_error(service: &TestService, connector: &TlsConnector) -> io::Error {
    // In TLS 1.3 the client completes its handshake before the server has verified its certificate.
    match connect(service.running.address(), connector).await {
        Ok(mut stream) => stream.read_to_end(&mut Vec::new()).await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn unverifiable_client_is_refused_in_tls_handshake() {
    let mutual = EncryptedService::start_mutual().await;
    for (signer, alert) in [(Authority::named("others"), "UnknownCA"), (Authority::new(), "DecryptError")] {
        let shown = signer.sign(vec![dns("api.internal")]);
        let error =
            handshake_error(&mutual.service, &mutual.authority.connector(Some(&shown))).await.to_string();
        assert!(error.contains(alert), "{error}");
    }
    // The client verifies the server's certificate, too.
    let error =
        handshake_error(&mutual.service, &Authority::named("others").connector(None)).await.to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    call_path(&mutual.channel(None).await, INFO, Some("Bearer tac_api")).await.unwrap();
}

#[tokio::test]
async fn plaintext_or_non_http2_client_is_closed() {
    let encrypted = EncryptedService::start().await;
    let address = encrypted.service.running.address();
    let mut plaintext = TcpStream::connect(address).await.unwrap();
    plaintext.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset: the server does not read anything after the first bytes.
    let _ = plaintext.read_to_end(&mut answer).await;
    assert!(
        !answer.windows(4).any(|bytes| bytes == b"HTTP") && answer.len() < 32,
        "at most an alert: {answer:?}"
    );

    let http1 = encrypted.authority.connector_for(b"http/1.1", None);
    let error = handshake_error(&encrypted.service, &http1).await.to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    call_path(&encrypted.channel(None).await, INFO, None).await.unwrap();
}
