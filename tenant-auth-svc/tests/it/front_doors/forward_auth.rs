//! Forward authentication over HTTP, for proxies that pass the response on and for nginx.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SharedClock, SystemClock},
};
use tenant_auth_testkit::Fault;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{denied_keys, problem_code};
use crate::harness::{
    HttpAnswer, NOW, TestDatabase, TestService,
    callers::CallersFile,
    front_doors::{IDENTITY_HEADERS, forward_address, start_with_doors, with_forward_address},
    http_exchange, owned, unknown_key,
};

/// The paths: for most proxies, and for nginx.
const PATHS: [&str; 2] = ["/forward-auth", "/forward-auth/nginx"];

async fn ask(address: SocketAddr, path_and_query: &str, headers: &[(&str, &str)]) -> HttpAnswer {
    let answer = http_exchange(address, &format!("GET {path_and_query}"), headers, "").await.unwrap();
    if answer.status != 404 {
        for name in IDENTITY_HEADERS {
            let count = answer.head.lines().filter(|line| line.starts_with(&format!("{name}:"))).count();
            assert_eq!(count, 1, "{name} is in every answer, once: {}", answer.head);
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    answer
}

async fn ask_with_key(service: &TestService, path: &str, key: &str) -> HttpAnswer {
    ask(forward_address(service), path, &[("authorization", &format!("Bearer {key}"))]).await
}

/// Asserts the status for the customer, and the status on the wire.
#[track_caller]
fn assert_refused(answer: &HttpAnswer, path: &str, status: u16, code: &str) {
    assert_eq!(problem_code(&answer.body), code);
    let is_nginx = path.starts_with("/forward-auth/nginx");
    let wire_status = if is_nginx && status != 401 { 403 } else { status };
    assert_eq!(answer.status, wire_status, "{code}");
    if is_nginx {
        assert_eq!(answer.header("x-tenant-auth-status"), Some(&*status.to_string()));
        assert_eq!(answer.header("x-tenant-auth-problem"), Some(&*answer.body.to_lowercase()));
    }
    assert!(IDENTITY_HEADERS.iter().all(|name| answer.header(name) == Some("")), "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{code}");
}

#[tokio::test]
async fn admitted_request_gets_identity_headers() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &["a", "b"]).await;
    for (path, source) in PATHS.into_iter().zip(["database", "fresh"]) {
        let answer = ask_with_key(&service, &format!("{path}?scopes=a,b"), &key).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let values = IDENTITY_HEADERS.map(|name| answer.header(name).unwrap());
        assert_eq!(values, [&tenant, "acme", "pro", &key_id, "a b", "", "", source, ""]);
    }
    let answer = ask(forward_address(&service), "/forward-auth", &[("X-API-Key", &key)]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn each_denial_has_its_status_at_both_paths() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = with_forward_address(database.settings());
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    for denied in denied_keys(&service, &clock).await {
        for path in PATHS {
            let answer = ask_with_key(&service, &format!("{path}?scopes=a"), &denied.key).await;
            assert_refused(&answer, path, denied.status, denied.code);
        }
    }
    for path in PATHS {
        let address = forward_address(&service);
        assert_refused(&ask(address, path, &[]).await, path, 401, "NO_CREDENTIALS");
        let two = [("authorization", "Bearer key-number-1"), ("x-api-key", "key-number-2")];
        assert_refused(&ask(address, path, &two).await, path, 400, "AMBIGUOUS_REQUEST");
    }
}

#[tokio::test]
async fn outage_is_503_for_unknown_keys_and_200_for_known_ones() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = with_forward_address(database.settings());
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    assert_eq!(ask_with_key(&service, "/forward-auth", &key).await.status, 200);
    database.server().faults().set(Fault::ResetBeforeExecute);
    clock.advance(Duration::from_secs(600));
    for path in PATHS {
        let answer = ask_with_key(&service, path, &key).await;
        assert_eq!((answer.status, answer.header("x-tenant-source")), (200, Some("stale")));
        let answer = ask_with_key(&service, path, &unknown_key()).await;
        assert_refused(&answer, path, 503, "UNDECIDED");
    }
}

/// A proxy waits a second: the answer has to come before that.
#[tokio::test]
async fn hung_database_is_answered_before_the_proxy_gives_up() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    database.server().faults().set(Fault::Hang);
    let answer = ask_with_key(&service, "/forward-auth", &unknown_key()).await;
    assert_refused(&answer, "/forward-auth", 503, "UNDECIDED");
    database.server().faults().clear();
}

#[tokio::test]
async fn misconfigured_proxy_is_503_and_named() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let address = forward_address(&service);
    for path in PATHS {
        for query in [
            "scope=a",
            "scopes=A",
            "scopes=a&x",
            "preflight=yes",
            "cost=-1",
            "audience=",
            "scopes=",
            "cost=1&cost=2",
        ] {
            let answer = ask(address, &format!("{path}?{query}"), &[("x-api-key", "key-number-1")]).await;
            assert_refused(&answer, path, 503, "PROXY_MISCONFIGURED");
        }
    }
    // A typing error in the path of the door, too.
    for path in ["/forward-auth/", "/forward-auth/other", "/forward-auth/nginx/"] {
        let answer = ask(address, path, &[("x-api-key", "key-number-1")]).await;
        assert_refused(&answer, path, 503, "PROXY_MISCONFIGURED");
    }
    assert_eq!(ask(address, "/forward_auth", &[]).await.status, 404);
}

#[tokio::test]
async fn proxy_without_its_token_or_role_is_503() {
    let database = TestDatabase::test_server().await;
    let file = CallersFile::new(&[("nginx", Role::Proxy, &["proxy"]), ("api", Role::Validator, &["api"])]);
    let settings = with_forward_address(file.settings(&database));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let address = forward_address(&service);
    let key = ("x-api-key", "key-number-1");
    for path in PATHS {
        for token in ["guess", "api", ""] {
            let answer = ask(address, path, &[key, ("x-tenant-auth-token", token)]).await;
            assert_refused(&answer, path, 503, "UNKNOWN_CALLER");
            assert_eq!(answer.header("connection"), Some("close"));
        }
        let answer = ask(address, path, &[key, ("authorization", "Bearer proxy")]).await;
        assert_refused(&answer, path, 503, "UNKNOWN_CALLER");
        let answer = ask(address, path, &[key, ("x-tenant-auth-token", "proxy")]).await;
        assert_refused(&answer, path, 401, "UNKNOWN");
    }
    // Removed callers may not ask from then on.
    file.write(&[("api", Role::Validator, &["api"])]);
    service.running.reloader()();
    let answer = ask(address, "/forward-auth", &[key, ("x-tenant-auth-token", "proxy")]).await;
    assert_refused(&answer, "/forward-auth", 503, "UNKNOWN_CALLER");
}

#[tokio::test]
async fn forwarded_headers_count_only_from_trusted_peers() {
    for (trusted, outcomes) in [
        ("127.0.0.0/8", ["200", "ADDRESS_NOT_ALLOWED", "ADDRESS_REQUIRED", "200"]),
        ("192.0.2.0/24", ["ADDRESS_REQUIRED", "ADDRESS_REQUIRED", "ADDRESS_REQUIRED", "NO_CREDENTIALS"]),
    ] {
        let database = TestDatabase::test_server().await;
        let settings = with_forward_address(database.settings())
            .with_flag("TENANT_AUTH_FORWARD_TRUSTED_PEERS", Some(trusted.to_owned()));
        let service = TestService::start_with(settings, SystemClock::shared()).await;
        let tenant = service.create_tenant("Acme").await;
        let issue = v1::IssueKeyRequest {
            tenant_id: tenant,
            allowed_networks: owned(&["203.0.113.0/24"]),
            ..Default::default()
        };
        let key = service.admin().issue_key(issue).await.unwrap().into_inner().plaintext;
        let address = forward_address(&service);
        let outcome = async |path: &str, headers: &[(&str, &str)]| {
            let answer = ask(address, path, headers).await;
            if answer.status == 200 { "200".to_owned() } else { problem_code(&answer.body) }
        };
        let with_address = async |forwarded: &str| {
            outcome("/forward-auth", &[("x-api-key", &key), ("x-forwarded-for", forwarded)]).await
        };
        assert_eq!(with_address("198.51.100.1, 203.0.113.7").await, outcomes[0]);
        assert_eq!(with_address("203.0.113.7, 198.51.100.1").await, outcomes[1]);
        assert_eq!(with_address("203.0.113.7, unknown").await, outcomes[2]);
        let preflight = [
            ("x-forwarded-method", "OPTIONS"),
            ("origin", "https://app.example.com"),
            ("access-control-request-method", "PUT"),
        ];
        assert_eq!(outcome("/forward-auth?preflight=pass", &preflight).await, outcomes[3]);
        assert_eq!(outcome("/forward-auth", &preflight).await, "NO_CREDENTIALS");
        assert_eq!(outcome("/forward-auth?preflight=pass", &preflight[..2]).await, "NO_CREDENTIALS");
    }
}

#[tokio::test]
async fn revoked_key_is_refused_at_once() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &[]).await;
    assert_eq!(ask_with_key(&service, "/forward-auth", &key).await.status, 200);
    service.revoke_key(&key_id).await;
    let answer = ask_with_key(&service, "/forward-auth", &key).await;
    assert_refused(&answer, "/forward-auth", 401, "REVOKED");
}

#[tokio::test]
async fn requests_in_flight_end_before_the_service_stops() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let address = forward_address(&service);
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /forward-auth HTTP/1.1\r\nhost: test\r\nx-api-key: {key}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    service.running.stop().await;
    // The idle connection has ended, and no new one is accepted.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
