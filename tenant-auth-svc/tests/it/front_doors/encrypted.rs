//! The doors over HTTP with TLS: the certificate of the gRPC address, and proxies that present one.

use tenant_auth_svc::domain::clock::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::harness::{
    TestDatabase, TestService,
    front_doors::{forward_address, with_forward_address},
    pki::{Authority, connect, dns},
};

/// Returns the status line of an answer.
async fn ask(service: &TestService, connector: &TlsConnector) -> std::io::Result<String> {
    let mut stream = connect(forward_address(service), connector).await?;
    let request =
        "GET /forward-auth HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-api-key: short\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // A server may close without a goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn proxy_with_a_known_certificate_may_ask() {
    let authority = Authority::new();
    let (files, ca) = (authority.server_certificate().write(), authority.write());
    let callers = files.folder().join("callers.toml");
    let text = "[[caller]]\nname = 'nginx'\nroles = ['proxy']\ndns = ['nginx.internal']\n";
    std::fs::write(&callers, text).unwrap();
    let settings = with_forward_address(TestDatabase::embedded().settings())
        .with_flag("TENANT_AUTH_TLS_CERT_FILE", Some(files.certificate()))
        .with_flag("TENANT_AUTH_TLS_KEY_FILE", Some(files.key()))
        .with_flag("TENANT_AUTH_TLS_CLIENT_CA_FILE", Some(ca.certificate()))
        .with_flag("TENANT_AUTH_CALLERS_FILE", Some(callers.display().to_string()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;

    let known = authority.sign(vec![dns("nginx.internal")]);
    let other = authority.sign(vec![dns("other.internal")]);
    let with = |shown| authority.connector_for(b"http/1.1", shown);
    assert_eq!(ask(&service, &with(Some(&known))).await.unwrap(), "HTTP/1.1 401 Unauthorized");
    assert_eq!(ask(&service, &with(Some(&other))).await.unwrap(), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(ask(&service, &with(None)).await.unwrap(), "HTTP/1.1 503 Service Unavailable");

    // HTTP/2 is not served at this address.
    assert!(ask(&service, &authority.connector(Some(&known))).await.is_err());
    let stranger = Authority::named("stranger").sign(vec![dns("nginx.internal")]);
    let refused = ask(&service, &with(Some(&stranger))).await;
    assert!(refused.as_deref().unwrap_or_default().is_empty(), "{refused:?}");
}
