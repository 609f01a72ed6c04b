//! When certificates and tokens expire: told before they do, and by what is in force.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tenant_auth_svc::{config::Settings, domain::clock::ManualClock};
use tenant_auth_testkit::HranaServer;

use crate::{
    captured::Captured,
    cli::program,
    harness::{Database, NOW, Service, http},
    pki::{Authority, Day, Pair, channel, dns, midnight},
    scrape::Scrape,
    wire::call,
};

/// The clock of these tests shows September 2026.
const BEFORE: Day = (2026, 7, 1);
const SOON: Day = (2026, 12, 1);
const LATER: Day = (2027, 3, 1);
const PAST: Day = (2026, 9, 1);

/// A service with certificates in files, and a clock of its own.
struct Dated {
    folder: TempDir,
    clock: Arc<ManualClock>,
    service: Service,
}

impl Dated {
    async fn start(chain: &Pair, client_ca: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name).display().to_string());
        write(&folder, chain);
        let mut settings = Database::embedded()
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
        let service = Service::start_unready(settings, clock.clone()).await;
        Self { folder, clock, service }
    }

    fn reload_with(&self, chain: &Pair) {
        write(&self.folder, chain);
        self.service.running.reloader()();
    }

    /// When certificates of a kind expire and begin, by the metrics.
    async fn dates(&self, certificate: &str) -> Option<[i64; 2]> {
        let text = Scrape::of(&self.service).await.text;
        let number = |metric: &str| {
            let name = format!(
                "tenant_auth_certificate_{metric}_timestamp_seconds{{certificate=\"{certificate}\"}} "
            );
            let number: f64 = text.lines().find_map(|line| line.strip_prefix(&name))?.parse().unwrap();
            Some(number as i64)
        };
        Some([number("expiry")?, number("not_before")?])
    }

    async fn line(&self, name: &str) -> String {
        line(&self.service, name).await
    }
}

async fn line(service: &Service, name: &str) -> String {
    let told = http(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap().body;
    told.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
}

fn write(folder: &TempDir, chain: &Pair) {
    std::fs::write(folder.path().join("key.pem"), &chain.key).unwrap();
    std::fs::write(folder.path().join("chain.pem"), &chain.certificate).unwrap();
}

/// A server's certificate, and one of an authority's behind it.
fn chain(server: Pair, authority: &Authority) -> Pair {
    Pair { certificate: server.certificate + authority.pem(), ..server }
}

#[tokio::test]
async fn the_first_certificate_of_a_file_to_expire_is_told() {
    let (soon, later) = (Authority::between((2020, 1, 1), SOON), Authority::between(BEFORE, LATER));
    let roots = format!("{}{}{}", Authority::new().pem(), later.pem(), soon.pem());
    let dated = Dated::start(&chain(soon.server_between(BEFORE, LATER), &soon), Some(&roots)).await;
    assert_eq!(
        dated.dates("server").await,
        Some([midnight(SOON), midnight((2020, 1, 1))]),
        "the one between"
    );
    assert_eq!(dated.dates("client_ca").await, Some([midnight(SOON), midnight((2020, 1, 1))]));
    assert_eq!(dated.dates("database_ca").await, None);
    assert_eq!(
        dated.line("expiry").await,
        "expiry    server certificate expires at 2026-12-01T00:00:00Z, in 70 d; client CA expires at 2026-12-01T00:00:00Z, in 70 d"
    );

    dated.reload_with(&chain(later.server_between(BEFORE, (2027, 1, 1)), &later));
    assert_eq!(dated.dates("server").await, Some([midnight((2027, 1, 1)), midnight(BEFORE)]), "its own");
    dated.reload_with(&Pair { certificate: "garbage".to_owned(), ..later.server_between(BEFORE, SOON) });
    assert_eq!(dated.dates("server").await.unwrap()[0], midnight((2027, 1, 1)), "what is in force");
}

#[tokio::test]
async fn a_certificate_that_is_no_x509_is_refused_by_its_place() {
    let authority = Authority::new();
    let dated = Dated::start(&authority.server(), None).await;
    let before = dated.dates("server").await;
    let garbage = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    let server = authority.server();
    dated.reload_with(&Pair { certificate: server.certificate.clone() + garbage, ..server });
    assert_eq!(dated.dates("server").await, before);
    assert!(dated.line("files").await.contains("certificates cannot be used"));
    assert!(Captured::log().text().contains("certificate 2 in it is no X.509"));
}

#[tokio::test]
async fn an_invalid_certificate_does_not_replace_a_valid_one() {
    let authority = Authority::between(BEFORE, LATER);
    let dated = Dated::start(&authority.server_between(BEFORE, SOON), None).await;
    let past = authority.server_between(BEFORE, PAST);
    for bad in [&past, &authority.server_between(SOON, LATER)] {
        dated.reload_with(bad);
        assert_eq!(dated.dates("server").await.unwrap()[0], midnight(SOON));
        assert!(
            dated.line("files").await.contains("certificates cannot be used"),
            "{}",
            dated.line("files").await
        );
    }
    // The one that was to come is in force as soon as it is valid; the file has not changed.
    dated.clock.jump_to(tenant_auth_svc::domain::clock::UnixMillis(midnight(SOON) * 1_000));
    dated.service.running.reloader()();
    assert_eq!(dated.dates("server").await.unwrap()[0], midnight(LATER));
    assert_eq!(dated.line("files").await, "files     in force");
    // Where none is valid, there is nothing to lose.
    dated.clock.advance(Duration::from_secs(365 * 86_400));
    dated.reload_with(&past);
    assert_eq!(dated.dates("server").await.unwrap()[0], midnight(PAST));
}

/// How often the log says something of a subject.
fn logged(subject: &str, words: &str) -> usize {
    let log = Captured::log().text();
    log.lines().filter(|line| line.contains(subject) && line.contains(words)).count()
}

#[tokio::test]
async fn an_expired_certificate_is_served_and_logged_once() {
    let past = Authority::between((2024, 2, 29), PAST);
    // What is logged is told apart from that of other tests by the time of its end.
    let expires = "2026-09-01T00:00:00Z";
    let before = logged(expires, "client CA\"");
    let dated = Dated::start(&past.server_between(BEFORE, PAST), Some(past.pem())).await;
    dated.service.running.reloader()();
    dated.service.running.reloader()();
    assert!(
        dated
            .line("expiry")
            .await
            .starts_with("expiry    server certificate expired at 2026-09-01T00:00:00Z, 20 d ago")
    );
    assert_eq!(logged(expires, "client CA\"") - before, 1, "once");
    assert!(logged(expires, "has expired: replace its file") >= 2, "{}", Captured::log().text());
}

#[tokio::test]
async fn an_expiry_is_logged_a_week_ahead_and_again_when_it_is_over() {
    let authority = Authority::new();
    let end: Day = (2026, 11, 3);
    let dated = Dated::start(&authority.server_between(BEFORE, end), None).await;
    let (expires, soon, over) = ("2026-11-03T00:00:00Z", "expires soon", "has expired");
    let look = |day: Day| {
        dated.clock.jump_to(tenant_auth_svc::domain::clock::UnixMillis(midnight(day) * 1_000));
        dated.service.running.reloader()();
        (logged(expires, soon), logged(expires, over))
    };
    assert_eq!(look((2026, 10, 27)), (0, 0));
    assert_eq!(look((2026, 10, 28)), (1, 0));
    assert_eq!(look((2026, 11, 2)), (1, 0));
    assert_eq!(look((2026, 11, 4)), (1, 1));
    assert_eq!(look((2026, 11, 5)), (1, 1));
}

/// What the documents say of a CA: its own dates refuse nobody.
#[tokio::test]
async fn an_expired_client_ca_refuses_no_caller() {
    let (server, past) = (Authority::new(), Authority::between((2020, 1, 1), (2021, 1, 1)));
    let dated = Dated::start(&server.server(), Some(past.pem())).await;
    let shown = past.sign(vec![dns("api.internal")]);
    let channel = channel(dated.service.running.address(), &server.connector(Some(&shown))).await.unwrap();
    call(&channel, "/tenantauth.v1.InfoService/GetServerInfo", None).await.unwrap();
}

fn jwt(claims: &str) -> String {
    format!("eyJhbGciOiJFZERTQSJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn with_token(server: &HranaServer, token: &Path) -> Settings {
    Database::embedded()
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
        .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(token.display().to_string()))
}

#[tokio::test]
async fn the_database_tokens_in_force_tell_their_expiry() {
    let [old, new, opaque] =
        [jwt(r#"{"exp":1795000000,"iat":1787000000}"#), jwt(r#"{"exp":1799000000}"#), "opaque".to_owned()];
    let server = HranaServer::builder().token(&old).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, &old).unwrap();
    let clock = ManualClock::at(NOW);
    let service = Service::start_with(with_token(&server, &path), clock.clone()).await;
    let told = async || {
        let text = Scrape::of(&service).await.text;
        let lines = text.lines().filter(|line| line.starts_with("tenant_auth_token_"));
        lines.map(|line| line.replace("tenant_auth_token_", "")).collect::<Vec<_>>()
    };
    let at_first = [
        "expiry_timestamp_seconds{token=\"reads\"} 1795000000",
        "expiry_timestamp_seconds{token=\"writes\"} 1795000000",
        "issued_timestamp_seconds{token=\"reads\"} 1787000000",
        "issued_timestamp_seconds{token=\"writes\"} 1787000000",
    ];
    assert_eq!(told().await, at_first);

    // A new one counts once it has worked, for reads and for writes each.
    server.set_token(&new);
    std::fs::write(&path, &new).unwrap();
    service.running.reloader()();
    service.tenant("Acme").await;
    service.validate(&crate::harness::strange_key()).await.unwrap();
    assert_eq!(
        told().await,
        [
            "expiry_timestamp_seconds{token=\"reads\"} 1799000000",
            "expiry_timestamp_seconds{token=\"writes\"} 1799000000"
        ]
    );
    assert!(line(&service, "expiry").await.contains("database token for writes expires at 2027-01-03T"));

    server.set_token(&opaque);
    std::fs::write(&path, &opaque).unwrap();
    service.running.reloader()();
    service.tenant("Bcme").await;
    service.validate(&crate::harness::strange_key()).await.unwrap();
    assert_eq!(told().await, Vec::<String>::new());
}

#[tokio::test]
async fn check_config_says_what_expires_when() {
    let (past, authority) = (Authority::between((2020, 1, 1), (2021, 1, 1)), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &chain(authority.server(), &past));
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, past.pem()).unwrap();
    let token = folder.path().join("token");
    let mut checked = Vec::new();
    for words in [jwt(r#"{"exp":4000000000}"#), "opaque".to_owned()] {
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
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains(&words), "no token is shown");
        checked.push(told);
    }
    for line in
        ["server certificate expired at 2021-01-01T00:00:00Z", "database CA expired at 2021-01-01T00:00:00Z"]
    {
        let told = checked[0].lines().find(|told| told.starts_with(line));
        assert!(told.is_some_and(|told| told.ends_with("d ago (CN=dated)")), "{}", checked[0]);
    }
    assert!(
        checked[0].contains("database token for reads expires at 2096-10-02T07:06:40Z, in "),
        "{}",
        checked[0]
    );
    assert!(checked[1].contains("the database's token names no expiry"), "{}", checked[1]);
}
