//! Services that authenticate callers, with and without TLS.

use crate::harness::{
    Service,
    credentials::{CredentialFiles, list},
};

#[test]
fn token_file_identifies_the_caller() {
    let files = CredentialFiles::new();
    let service = Service::start_with("http://", |settings| files.callers(settings));
    let with = |name: &str| list(&service, &["--token-file", &files.path(name)]);
    let ran = with("operator");
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let ran = list(&service, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""));
    assert!(ran.stderr.contains("use --token-file"), "{}", ran.stderr);
    let ran = with("stranger");
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.contains("must list this token's hash"), "{}", ran.stderr);
    let ran = with("meter");
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.contains("admin") && ran.stderr.contains("callers file sets"), "{}", ran.stderr);

    let ran = list(&service, &["--ca", &files.path("operator")]);
    assert_eq!(ran.code, 2);
    let ran = service.run(&["info", "--token-file", &files.path("meter"), "--json"], "");
    assert_eq!(ran.code, 0, "every known caller may read the server info: {}", ran.stderr);
}

#[test]
fn tls_service_is_verified_and_certificate_identifies() {
    let files = CredentialFiles::with_certificates();
    let service = Service::start_with("https://", |settings| files.certificates(settings));
    let path = |name: &str| files.path(name);
    let (ca, token) = (path("ca.pem"), path("operator"));
    let (client, client_key, other_key) = (path("client.pem"), path("client.key"), path("service.key"));

    for credential in [&["--token-file", &*token][..], &["--cert", &client, "--cert-key", &client_key]] {
        let ran = list(&service, &[&["--ca", &*ca], credential].concat());
        assert_eq!(ran.code, 0, "{credential:?}: {}", ran.stderr);
    }
    let ran = list(&service, &["--ca", &ca]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);

    // Other root certificates are rejected.
    let other = CredentialFiles::with_certificates();
    let ran = list(&service, &["--ca", &other.path("ca.pem"), "--token-file", &token]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("with a certificate for this name that --ca"), "{}", ran.stderr);

    let ran = list(&service, &["--ca", &ca, "--cert", &client, "--cert-key", &other_key]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("--cert-key: {other_key}")), "{}", ran.stderr);

    let plain = format!("http://{}", service.endpoint.trim_start_matches("https://"));
    let ran = service.run(&["info", "--endpoint", &plain, "--ca", &ca], "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--ca requires an https:// endpoint"), "{}", ran.stderr);
    let ran = service.run(&["info", "--endpoint", &plain, "--token-file", &token], "");
    assert_eq!(ran.code, 4);
}
