//! The deny list file: its keys and tenants are denied on every path, at once, and without the database.

use std::path::PathBuf;

use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, SessionExpiry, Verdict, batch_validate_keys_result::Result as BatchOutcome,
    session_service_client::SessionServiceClient, stream_validate_keys_response::Result as Outcome,
    watch_response::Event, watch_service_client::WatchServiceClient,
};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::{
        clock::SystemClock,
        key::{KeyHash, PresentedKey},
    },
};
use tenant_auth_testkit::Fault;

use crate::harness::{
    TestDatabase, TestService, http_request, outcome, scrape::Scrape, stream_request, unknown_key,
};

/// A replica with a deny list file that tests can rewrite.
struct DenyListReplica {
    database: TestDatabase,
    service: TestService,
    folder: TempDir,
    tenant: String,
}

impl DenyListReplica {
    async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    async fn start_with(adjust: impl FnOnce(Settings) -> Settings) -> Self {
        let (database, folder) = (TestDatabase::test_server().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("denied");
        std::fs::write(&path, "# empty\n").unwrap();
        let settings =
            database.settings().with_flag("TENANT_AUTH_DENY_FILE", Some(path.display().to_string()));
        let service = TestService::start_with(adjust(settings), SystemClock::shared()).await;
        let tenant = service.create_tenant("Acme").await;
        Self { database, service, folder, tenant }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("denied")
    }

    fn write_deny_list(&self, lines: &str) {
        std::fs::write(self.path(), lines).unwrap();
        self.service.running.reloader()();
    }

    async fn issue_key(&self) -> (String, String) {
        let (key, id) = self.service.issue_key(&self.tenant, &[]).await;
        assert_eq!(self.service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
        (key, id)
    }

    /// Returns the verdict of every RPC that validates a key: unary, batch and stream.
    async fn verdict_on_every_path(&self, key: &str) -> Verdict {
        let alone = self.service.validate(key).await.unwrap();
        assert_eq!(alone.provenance.as_ref().unwrap().cacheable_for, Some(prost_types::Duration::default()));
        let request =
            v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new(), ..Default::default() };
        let batch = v1::BatchValidateKeysRequest { requests: vec![request] };
        let results =
            self.service.validation().batch_validate_keys(batch).await.unwrap().into_inner().results;
        let Some(BatchOutcome::Response(of_batch)) = &results[0].result else { panic!("{results:?}") };
        let queries = tokio_stream::once(stream_request(1, key));
        let mut stream = self.service.validation().stream_validate_keys(queries).await.unwrap().into_inner();
        let of_stream = stream.message().await.unwrap().unwrap();
        let Some(Outcome::Response(of_stream)) = of_stream.result else { panic!("{of_stream:?}") };
        assert_eq!((alone.verdict(), alone.verdict()), (of_batch.verdict(), of_stream.verdict()));
        alone.verdict()
    }

    async fn status_line(&self, name: &str) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let reported = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        reported.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
    }
}

fn sha256_hex(key: &str) -> String {
    let hash = KeyHash::of(&PresentedKey::new(key.to_owned()));
    let digits = hash.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

#[tokio::test]
async fn deny_list_applies_on_every_path_once_loaded() {
    let denying = DenyListReplica::start().await;
    let ((by_id, id), (by_hash, _), (other, _)) =
        (denying.issue_key().await, denying.issue_key().await, denying.issue_key().await);
    denying.write_deny_list(&format!("{id} # stolen\n{}\n", sha256_hex(&by_hash)));
    assert_eq!(denying.verdict_on_every_path(&by_id).await, Verdict::Revoked);
    assert_eq!(denying.verdict_on_every_path(&by_hash).await, Verdict::Revoked);
    assert_eq!(denying.service.validate(&other).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(
        denying.status_line("denied").await,
        "denied    2 entries in the deny file, denied regardless of the database"
    );
    let scrape = Scrape::collect(&denying.service).await;
    scrape.assert_value("tenant_auth_deny_list_entries{kind=\"keys\"}", 1.0);
    scrape.assert_value("tenant_auth_deny_list_entries{kind=\"hashes\"}", 1.0);

    denying.write_deny_list(&format!("tenant:{}\n", denying.tenant));
    for key in [&by_id, &by_hash, &other] {
        assert_eq!(denying.verdict_on_every_path(key).await, Verdict::TenantSuspended);
    }
    denying.write_deny_list("");
    for key in [&by_id, &by_hash, &other] {
        assert_eq!(denying.service.validate(key).await.unwrap().verdict(), Verdict::Valid);
    }
}

#[tokio::test]
async fn deny_list_applies_without_database() {
    let denying = DenyListReplica::start().await;
    let ((key, id), (other, _), never_seen) =
        (denying.issue_key().await, denying.issue_key().await, unknown_key());
    denying.database.server().faults().set(Fault::service_unavailable());
    denying.write_deny_list(&format!("{id}\n{}", sha256_hex(&never_seen)));
    assert_eq!(denying.verdict_on_every_path(&key).await, Verdict::Revoked);
    assert_eq!(denying.verdict_on_every_path(&never_seen).await, Verdict::Revoked, "no lookup is needed");
    assert_eq!(denying.service.validate(&other).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(outcome(&denying.service.validate(&unknown_key()).await), "Unavailable");
    denying.write_deny_list(&format!("tenant:{}", denying.tenant));
    assert_eq!(denying.verdict_on_every_path(&other).await, Verdict::TenantSuspended);
}

#[tokio::test]
async fn deny_listed_hash_is_not_looked_up() {
    let denying = DenyListReplica::start().await;
    let key = unknown_key();
    denying.write_deny_list(&sha256_hex(&key));
    let before = denying.database.server().counters();
    assert_eq!(denying.verdict_on_every_path(&key).await, Verdict::Revoked);
    assert_eq!(denying.database.server().counters().requests, before.requests);
}

#[tokio::test]
async fn deny_list_denies_sessions_and_prevents_binding() {
    let denying = DenyListReplica::start().await;
    let (key, id) = denying.issue_key().await;
    let mut sessions = SessionServiceClient::new(denying.service.channel.clone());
    let bind = |session: &str| v1::BindSessionRequest {
        session_id: session.to_owned(),
        key: key.clone(),
        ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        expiry: SessionExpiry::Fixed.into(),
        ..Default::default()
    };
    sessions.bind_session(bind("one")).await.unwrap();
    let validate = async || {
        let request = v1::ValidateSessionRequest { session_id: "one".to_owned(), ..Default::default() };
        denying.service.validation().validate_session(request).await.unwrap().into_inner()
    };
    assert_eq!(validate().await.verdict(), Verdict::Valid);

    denying.database.server().faults().set(Fault::service_unavailable());
    denying.write_deny_list(&id);
    let answer = validate().await;
    assert_eq!(answer.verdict(), Verdict::Revoked);
    assert_eq!(answer.provenance.unwrap().cacheable_for, Some(prost_types::Duration::default()));
    let refused = sessions.bind_session(bind("two")).await.unwrap().into_inner();
    assert_eq!(refused.verdict(), Verdict::Revoked);
    denying.write_deny_list(&format!("tenant:{}", denying.tenant));
    assert_eq!(validate().await.verdict(), Verdict::TenantSuspended);
    denying.write_deny_list("");
    assert_eq!(validate().await.verdict(), Verdict::Valid);
}

#[tokio::test]
async fn invalid_deny_list_keeps_old_list_and_is_reported() {
    let denying = DenyListReplica::start().await;
    let (key, id) = denying.issue_key().await;
    denying.write_deny_list(&id);
    denying.write_deny_list("ta_somebody-put-a-key-here");
    assert_eq!(denying.verdict_on_every_path(&key).await, Verdict::Revoked);
    let reported = denying.status_line("files").await;
    assert_eq!(
        reported,
        "files     reload refused for deny list; the previous content stays in effect; the log says why"
    );
    Scrape::collect(&denying.service)
        .await
        .assert_value("tenant_auth_reload_failed{file=\"deny_list\"}", 1.0);
    std::fs::remove_file(denying.path()).unwrap();
    denying.service.running.reloader()();
    assert_eq!(
        denying.verdict_on_every_path(&key).await,
        Verdict::Revoked,
        "a missing file is not an empty file"
    );
    denying.write_deny_list("");
    assert_eq!(denying.status_line("files").await, "files     in effect");
    assert_eq!(denying.service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn deny_list_applies_at_start_and_invalid_list_fails_start() {
    let denying = DenyListReplica::start().await;
    let (key, id) = denying.issue_key().await;
    denying.write_deny_list(&id);
    let path = denying.path().display().to_string();
    let settings = || denying.database.settings().with_flag("TENANT_AUTH_DENY_FILE", Some(path.clone()));
    let second = TestService::start_with(settings(), SystemClock::shared()).await;
    assert_eq!(second.validate(&key).await.unwrap().verdict(), Verdict::Revoked);
    std::fs::write(denying.path(), "tenant:a\nnonsense").unwrap();
    let refused = ServiceConfig::read(settings()).unwrap_err().to_string();
    assert!(refused.contains("TENANT_AUTH_DENY_FILE") && refused.contains("line 2"), "{refused}");
}

/// Cached answers of clients would outlive the change, so subscribers are told to start over.
#[tokio::test]
async fn watch_resets_subscribers_only_when_deny_list_changes() {
    let fast = |settings: Settings| settings.with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
    let denying = DenyListReplica::start_with(fast).await;
    let (_, id) = denying.issue_key().await;
    let mut client = WatchServiceClient::new(denying.service.channel.clone());
    let mut watching = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();
    for lines in [&*id, "# nobody"] {
        denying.write_deny_list(lines);
        loop {
            let message = watching.message().await.unwrap().unwrap();
            if let Some(Event::StartOver(event)) = message.event {
                assert!(event.reason.contains("deny list"), "{event:?}");
                break;
            }
        }
    }
    denying.write_deny_list("# another comment");
    for _ in 0..2 {
        let message = watching.message().await.unwrap().unwrap();
        assert!(!matches!(message.event, Some(Event::StartOver(_))), "no entry has changed: {message:?}");
    }
}
