//! Expiry of certificates and tokens: it is reported in advance, for the credentials in use.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tenant_auth_svc::{config::Settings, domain::clock::ManualClock};
use tenant_auth_testkit::HranaServer;

use crate::harness::{
    NOW, TestDatabase, TestService,
    captured::TestLog,
    http_request,
    pki::{Authority, CertificatePair, Day, channel, dns, midnight},
    program::program,
    scrape::Scrape,
    wire::call_path,
};

/// The clock of these tests starts in September 2026.
const ISSUE_DAY: Day = (2026, 7, 1);
const SOON_EXPIRY_DAY: Day = (2026, 12, 1);
const LATER_EXPIRY_DAY: Day = (2027, 3, 1);
const PAST_EXPIRY_DAY: Day = (2026, 9, 1);

/// A service with certificates in files and its own clock.
struct ExpiringService {
    folder: TempDir,
    clock: Arc<ManualClock>,
    service: TestService,
}

impl ExpiringService {
    async fn start(chain: &CertificatePair, client_ca: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name).display().to_string());
        write_certificates(&folder, chain);
        let mut settings = TestDatabase::embedded()
            .settings()
            .with_flag("TENANT_AUTH_TLS_CERT_FILE", path("chain.pem"))
            .with_flag("TENANT_AUTH_TLS_KEY_FILE", path("key.pem"));
        if let Some(roots) = client_ca {
            std::fs::write(folder.path().join("roots.pem"), roots).unwrap();
            let callers = "[[caller]]\nname = 'api'\nroles = ['meter']\ndns = ['api.internal']\n";
            std::fs::write(folder.path().join("callers.toml"), callers).unwrap();
            settings = settings
                .with_flag("TENANT_AUTH_TLS_CLIENT_CA_FILE", path("roots.pem"))
                .with_flag("TENANT_AUTH_CALLERS_FILE", path("callers.toml"));
        }
        let clock = ManualClock::at(NOW);
        let service = TestService::start_unready(settings, clock.clone()).await;
        Self { folder, clock, service }
    }

    fn reload_with(&self, chain: &CertificatePair) {
        write_certificates(&self.folder, chain);
        self.service.running.reloader()();
    }

    /// Returns when certificates of a kind expire and become valid, from the metrics.
    async fn reported_dates(&self, certificate: &str) -> Option<[i64; 2]> {
        let text = Scrape::collect(&self.service).await.text;
        let number = |metric: &str| {
            let name = format!(
                "tenant_auth_certificate_{metric}_timestamp_seconds{{certificate=\"{certificate}\"}} "
            );
            let number: f64 = text.lines().find_map(|line| line.strip_prefix(&name))?.parse().unwrap();
            Some(number as i64)
        };
        Some([number("expiry")?, number("not_before")?])
    }

    async fn status_line(&self, name: &str) -> String {
        status_line(&self.service, name).await
    }
}

async fn status_line(service: &TestService, name: &str) -> String {
    let reported =
        http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap().body;
    reported.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
}

fn write_certificates(folder: &TempDir, chain: &CertificatePair) {
    std::fs::write(folder.path().join("key.pem"), &chain.key).unwrap();
    std::fs::write(folder.path().join("chain.pem"), &chain.certificate).unwrap();
}

/// Returns a chain of a server certificate and an authority's certificate.
fn certificate_chain(server: CertificatePair, authority: &Authority) -> CertificatePair {
    CertificatePair { certificate: server.certificate + authority.pem(), ..server }
}

#[tokio::test]
async fn earliest_expiry_in_certificate_file_is_reported() {
    let (soon, later) = (
        Authority::valid_between((2020, 1, 1), SOON_EXPIRY_DAY),
        Authority::valid_between(ISSUE_DAY, LATER_EXPIRY_DAY),
    );
    let roots = format!("{}{}{}", Authority::new().pem(), later.pem(), soon.pem());
    let dated = ExpiringService::start(
        &certificate_chain(soon.server_certificate_between(ISSUE_DAY, LATER_EXPIRY_DAY), &soon),
        Some(&roots),
    )
    .await;
    assert_eq!(
        dated.reported_dates("server").await,
        Some([midnight(SOON_EXPIRY_DAY), midnight((2020, 1, 1))]),
        "the intermediate certificate"
    );
    assert_eq!(
        dated.reported_dates("client_ca").await,
        Some([midnight(SOON_EXPIRY_DAY), midnight((2020, 1, 1))])
    );
    assert_eq!(dated.reported_dates("database_ca").await, None);
    assert_eq!(
        dated.status_line("expiry").await,
        "expiry    server certificate expires at 2026-12-01T00:00:00Z, in 70 d; client CA expires at 2026-12-01T00:00:00Z, in 70 d"
    );

    dated.reload_with(&certificate_chain(later.server_certificate_between(ISSUE_DAY, (2027, 1, 1)), &later));
    assert_eq!(
        dated.reported_dates("server").await,
        Some([midnight((2027, 1, 1)), midnight(ISSUE_DAY)]),
        "the server certificate"
    );
    dated.reload_with(&CertificatePair {
        certificate: "garbage".to_owned(),
        ..later.server_certificate_between(ISSUE_DAY, SOON_EXPIRY_DAY)
    });
    assert_eq!(
        dated.reported_dates("server").await.unwrap()[0],
        midnight((2027, 1, 1)),
        "the certificate in use"
    );
}

#[tokio::test]
async fn invalid_x509_certificate_is_refused_with_its_position() {
    let authority = Authority::new();
    let dated = ExpiringService::start(&authority.server_certificate(), None).await;
    let before = dated.reported_dates("server").await;
    let garbage = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    let server = authority.server_certificate();
    dated.reload_with(&CertificatePair { certificate: server.certificate.clone() + garbage, ..server });
    assert_eq!(dated.reported_dates("server").await, before);
    assert!(dated.status_line("files").await.contains("reload refused for certificates"));
    assert!(TestLog::shared().text().contains("certificate 2 of the file is not X.509"));
}

#[tokio::test]
async fn invalid_certificate_does_not_replace_valid_one() {
    let authority = Authority::valid_between(ISSUE_DAY, LATER_EXPIRY_DAY);
    let dated =
        ExpiringService::start(&authority.server_certificate_between(ISSUE_DAY, SOON_EXPIRY_DAY), None).await;
    let past = authority.server_certificate_between(ISSUE_DAY, PAST_EXPIRY_DAY);
    for bad in [&past, &authority.server_certificate_between(SOON_EXPIRY_DAY, LATER_EXPIRY_DAY)] {
        dated.reload_with(bad);
        assert_eq!(dated.reported_dates("server").await.unwrap()[0], midnight(SOON_EXPIRY_DAY));
        assert!(
            dated.status_line("files").await.contains("reload refused for certificates"),
            "{}",
            dated.status_line("files").await
        );
    }
    // The pending certificate is used as soon as it is valid, although the file has not changed.
    dated.clock.jump_to(tenant_auth_svc::domain::clock::UnixMillis(midnight(SOON_EXPIRY_DAY) * 1_000));
    dated.service.running.reloader()();
    assert_eq!(dated.reported_dates("server").await.unwrap()[0], midnight(LATER_EXPIRY_DAY));
    assert_eq!(dated.status_line("files").await, "files     in effect");
    // Where none is valid, there is nothing to lose.
    dated.clock.advance(Duration::from_secs(365 * 86_400));
    dated.reload_with(&past);
    assert_eq!(dated.reported_dates("server").await.unwrap()[0], midnight(PAST_EXPIRY_DAY));
}

/// Counts the log lines about a subject that contain these words.
fn log_count(subject: &str, words: &str) -> usize {
    let log = TestLog::shared().text();
    log.lines().filter(|line| line.contains(subject) && line.contains(words)).count()
}

#[tokio::test]
async fn expired_certificate_is_served_and_logged_once() {
    let past = Authority::valid_between((2024, 2, 29), PAST_EXPIRY_DAY);
    // The expiry time distinguishes these lines from those of other tests.
    let expires = "2026-09-01T00:00:00Z";
    let before = log_count(expires, "client CA\"");
    let dated = ExpiringService::start(
        &past.server_certificate_between(ISSUE_DAY, PAST_EXPIRY_DAY),
        Some(past.pem()),
    )
    .await;
    dated.service.running.reloader()();
    dated.service.running.reloader()();
    assert!(
        dated
            .status_line("expiry")
            .await
            .starts_with("expiry    server certificate expired at 2026-09-01T00:00:00Z, 20 d ago")
    );
    assert_eq!(log_count(expires, "client CA\"") - before, 1, "once");
    assert!(log_count(expires, "has expired: replace its file") >= 2, "{}", TestLog::shared().text());
}

#[tokio::test]
async fn certificate_expiry_is_logged_a_week_ahead_and_when_expired() {
    let authority = Authority::new();
    let end: Day = (2026, 11, 3);
    let dated = ExpiringService::start(&authority.server_certificate_between(ISSUE_DAY, end), None).await;
    let (expires, soon, over) = ("2026-11-03T00:00:00Z", "expires soon", "has expired");
    let look = |day: Day| {
        dated.clock.jump_to(tenant_auth_svc::domain::clock::UnixMillis(midnight(day) * 1_000));
        dated.service.running.reloader()();
        (log_count(expires, soon), log_count(expires, over))
    };
    assert_eq!(look((2026, 10, 27)), (0, 0));
    assert_eq!(look((2026, 10, 28)), (1, 0));
    assert_eq!(look((2026, 11, 2)), (1, 0));
    assert_eq!(look((2026, 11, 4)), (1, 1));
    assert_eq!(look((2026, 11, 5)), (1, 1));
}

/// The documents say that a CA's own validity dates reject no caller.
#[tokio::test]
async fn expired_client_ca_refuses_no_caller() {
    let (server, past) = (Authority::new(), Authority::valid_between((2020, 1, 1), (2021, 1, 1)));
    let dated = ExpiringService::start(&server.server_certificate(), Some(past.pem())).await;
    let shown = past.sign(vec![dns("api.internal")]);
    let channel = channel(dated.service.running.address(), &server.connector(Some(&shown))).await.unwrap();
    call_path(&channel, "/tenantauth.v1.InfoService/GetServerInfo", None).await.unwrap();
}

fn unsigned_jwt(claims: &str) -> String {
    format!("eyJhbGciOiJFZERTQSJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn settings_with_token(server: &HranaServer, token: &Path) -> Settings {
    TestDatabase::embedded()
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
        .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(token.display().to_string()))
}

#[tokio::test]
async fn current_database_token_reports_its_expiry() {
    let [old, new, opaque] = [
        unsigned_jwt(r#"{"exp":1795000000,"iat":1787000000}"#),
        unsigned_jwt(r#"{"exp":1799000000}"#),
        "opaque".to_owned(),
    ];
    let server = HranaServer::builder().token(&old).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, &old).unwrap();
    let clock = ManualClock::at(NOW);
    let service = TestService::start_with(settings_with_token(&server, &path), clock.clone()).await;
    let reported = async || {
        let text = Scrape::collect(&service).await.text;
        let lines = text.lines().filter(|line| line.starts_with("tenant_auth_token_"));
        lines.map(|line| line.replace("tenant_auth_token_", "")).collect::<Vec<_>>()
    };
    let at_first = [
        "expiry_timestamp_seconds{token=\"reads\"} 1795000000",
        "expiry_timestamp_seconds{token=\"writes\"} 1795000000",
        "issued_timestamp_seconds{token=\"reads\"} 1787000000",
        "issued_timestamp_seconds{token=\"writes\"} 1787000000",
    ];
    assert_eq!(reported().await, at_first);

    // A new token is in use once it has worked, separately for reads and for writes.
    server.set_token(&new);
    std::fs::write(&path, &new).unwrap();
    service.running.reloader()();
    service.create_tenant("Acme").await;
    service.validate(&crate::harness::unknown_key()).await.unwrap();
    assert_eq!(
        reported().await,
        [
            "expiry_timestamp_seconds{token=\"reads\"} 1799000000",
            "expiry_timestamp_seconds{token=\"writes\"} 1799000000"
        ]
    );
    assert!(
        status_line(&service, "expiry").await.contains("database token for writes expires at 2027-01-03T")
    );

    server.set_token(&opaque);
    std::fs::write(&path, &opaque).unwrap();
    service.running.reloader()();
    service.create_tenant("Bcme").await;
    service.validate(&crate::harness::unknown_key()).await.unwrap();
    assert_eq!(reported().await, Vec::<String>::new());
}

#[tokio::test]
async fn check_config_lists_expiry_dates() {
    let (past, authority) = (Authority::valid_between((2020, 1, 1), (2021, 1, 1)), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    write_certificates(&folder, &certificate_chain(authority.server_certificate(), &past));
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, past.pem()).unwrap();
    let token = folder.path().join("token");
    let mut checked = Vec::new();
    for words in [unsigned_jwt(r#"{"exp":4000000000}"#), "opaque".to_owned()] {
        std::fs::write(&token, &words).unwrap();
        let output = program()
            .args(["check-config", "--database-url", "https://db.example", "--database-token-file"])
            .arg(&token)
            .env("TENANT_AUTH_TLS_CERT_FILE", folder.path().join("chain.pem"))
            .env("TENANT_AUTH_TLS_KEY_FILE", folder.path().join("key.pem"))
            .env("SSL_CERT_FILE", &roots)
            .output()
            .await
            .unwrap();
        let reported = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!reported.contains(&words), "the output must not contain a token");
        checked.push(reported);
    }
    for line in
        ["server certificate expired at 2021-01-01T00:00:00Z", "database CA expired at 2021-01-01T00:00:00Z"]
    {
        let reported = checked[0].lines().find(|reported| reported.starts_with(line));
        assert!(reported.is_some_and(|reported| reported.ends_with("d ago (CN=dated)")), "{}", checked[0]);
    }
    assert!(
        checked[0].contains("database token for reads expires at 2096-10-02T07:06:40Z, in "),
        "{}",
        checked[0]
    );
    assert!(checked[1].contains("the database token has no expiry"), "{}", checked[1]);
}
