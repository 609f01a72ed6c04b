//! Keys and tenants that a file denies: on every path, at once, and without the database.

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

use crate::{
    harness::{Database, Service, http, outcome, strange_key},
    scrape::Scrape,
    stream::ask,
};

/// A replica with a deny list that can be written anew.
struct Denying {
    database: Database,
    service: Service,
    folder: TempDir,
    tenant: String,
}

impl Denying {
    async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    async fn start_with(adjust: impl FnOnce(Settings) -> Settings) -> Self {
        let (database, folder) = (Database::test_server().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("denied");
        std::fs::write(&path, "# nothing yet\n").unwrap();
        let settings =
            database.settings().with_flag("TENANT_AUTH_DENY_FILE", Some(path.display().to_string()));
        let service = Service::start_with(adjust(settings), SystemClock::shared()).await;
        let tenant = service.tenant("Acme").await;
        Self { database, service, folder, tenant }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("denied")
    }

    fn deny(&self, lines: &str) {
        std::fs::write(self.path(), lines).unwrap();
        self.service.running.reloader()();
    }

    async fn key(&self) -> (String, String) {
        let (key, id) = self.service.key(&self.tenant, &[]).await;
        assert_eq!(self.service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
        (key, id)
    }

    /// What each way to ask about a key says: by itself, in a batch, and on a stream.
    async fn says(&self, key: &str) -> Verdict {
        let alone = self.service.validate(key).await.unwrap();
        assert_eq!(alone.provenance.as_ref().unwrap().cacheable_for, Some(prost_types::Duration::default()));
        let request = v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new() };
        let batch = v1::BatchValidateKeysRequest { requests: vec![request] };
        let results =
            self.service.validation().batch_validate_keys(batch).await.unwrap().into_inner().results;
        let Some(BatchOutcome::Response(of_batch)) = &results[0].result else { panic!("{results:?}") };
        let asked = tokio_stream::once(ask(1, key));
        let mut stream = self.service.validation().stream_validate_keys(asked).await.unwrap().into_inner();
        let of_stream = stream.message().await.unwrap().unwrap();
        let Some(Outcome::Response(of_stream)) = of_stream.result else { panic!("{of_stream:?}") };
        assert_eq!((alone.verdict(), alone.verdict()), (of_batch.verdict(), of_stream.verdict()));
        alone.verdict()
    }

    async fn line(&self, name: &str) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let told = http(ops, "GET /readyz?verbose").await.unwrap().body;
        told.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
    }
}

fn sha256(key: &str) -> String {
    let hash = KeyHash::of(&PresentedKey::new(key.to_owned()));
    let digits = hash.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

#[tokio::test]
async fn a_denied_key_or_tenant_is_denied_on_every_path_from_the_reading_of_the_file_on() {
    let denying = Denying::start().await;
    let ((by_id, id), (by_hash, _), (other, _)) =
        (denying.key().await, denying.key().await, denying.key().await);
    denying.deny(&format!("{id} # stolen\n{}\n", sha256(&by_hash)));
    assert_eq!(denying.says(&by_id).await, Verdict::Revoked);
    assert_eq!(denying.says(&by_hash).await, Verdict::Revoked);
    assert_eq!(denying.service.validate(&other).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(denying.line("denied").await, "denied    2 entries by file, whatever the database says");
    let scrape = Scrape::of(&denying.service).await;
    scrape.is("tenant_auth_denied_entries{kind=\"keys\"}", 1.0);
    scrape.is("tenant_auth_denied_entries{kind=\"hashes\"}", 1.0);

    denying.deny(&format!("tenant:{}\n", denying.tenant));
    for key in [&by_id, &by_hash, &other] {
        assert_eq!(denying.says(key).await, Verdict::TenantSuspended);
    }
    denying.deny("");
    for key in [&by_id, &by_hash, &other] {
        assert_eq!(denying.service.validate(key).await.unwrap().verdict(), Verdict::Valid);
    }
}

#[tokio::test]
async fn with_the_database_gone_what_is_denied_is_denied() {
    let denying = Denying::start().await;
    let ((key, id), (other, _), never_seen) = (denying.key().await, denying.key().await, strange_key());
    denying.database.server().faults().set(Fault::service_unavailable());
    denying.deny(&format!("{id}\n{}", sha256(&never_seen)));
    assert_eq!(denying.says(&key).await, Verdict::Revoked);
    assert_eq!(denying.says(&never_seen).await, Verdict::Revoked, "nothing has to be looked up");
    assert_eq!(denying.service.validate(&other).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(outcome(&denying.service.validate(&strange_key()).await), "Unavailable");
    denying.deny(&format!("tenant:{}", denying.tenant));
    assert_eq!(denying.says(&other).await, Verdict::TenantSuspended);
}

#[tokio::test]
async fn a_hash_that_is_denied_is_not_looked_up() {
    let denying = Denying::start().await;
    let key = strange_key();
    denying.deny(&sha256(&key));
    let before = denying.database.server().counters();
    assert_eq!(denying.says(&key).await, Verdict::Revoked);
    assert_eq!(denying.database.server().counters().requests, before.requests);
}

#[tokio::test]
async fn sessions_of_a_denied_key_or_tenant_are_denied_and_none_is_bound() {
    let denying = Denying::start().await;
    let (key, id) = denying.key().await;
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
    denying.deny(&id);
    let answer = validate().await;
    assert_eq!(answer.verdict(), Verdict::Revoked);
    assert_eq!(answer.provenance.unwrap().cacheable_for, Some(prost_types::Duration::default()));
    let refused = sessions.bind_session(bind("two")).await.unwrap().into_inner();
    assert_eq!(refused.verdict(), Verdict::Revoked);
    denying.deny(&format!("tenant:{}", denying.tenant));
    assert_eq!(validate().await.verdict(), Verdict::TenantSuspended);
    denying.deny("");
    assert_eq!(validate().await.verdict(), Verdict::Valid);
}

#[tokio::test]
async fn a_list_that_cannot_be_used_leaves_the_old_one_in_force_and_is_told_of() {
    let denying = Denying::start().await;
    let (key, id) = denying.key().await;
    denying.deny(&id);
    denying.deny("ta_somebody-put-a-key-here");
    assert_eq!(denying.says(&key).await, Verdict::Revoked);
    let told = denying.line("files").await;
    assert_eq!(told, "files     the new deny list cannot be used, the old ones stay; the log says why");
    Scrape::of(&denying.service).await.is("tenant_auth_reload_refused{file=\"deny_list\"}", 1.0);
    std::fs::remove_file(denying.path()).unwrap();
    denying.service.running.reloader()();
    assert_eq!(denying.says(&key).await, Verdict::Revoked, "no file is no empty file");
    denying.deny("");
    assert_eq!(denying.line("files").await, "files     in force");
    assert_eq!(denying.service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn a_start_has_the_list_in_force_and_one_that_is_wrong_is_refused() {
    let denying = Denying::start().await;
    let (key, id) = denying.key().await;
    denying.deny(&id);
    let path = denying.path().display().to_string();
    let settings = || denying.database.settings().with_flag("TENANT_AUTH_DENY_FILE", Some(path.clone()));
    let second = Service::start_with(settings(), SystemClock::shared()).await;
    assert_eq!(second.validate(&key).await.unwrap().verdict(), Verdict::Revoked);
    std::fs::write(denying.path(), "tenant:a\nnonsense").unwrap();
    let refused = ServiceConfig::read(settings()).unwrap_err().to_string();
    assert!(refused.contains("TENANT_AUTH_DENY_FILE") && refused.contains("line 2"), "{refused}");
}

/// What callers keep would outlive the change: they are told to ask anew.
#[tokio::test]
async fn subscribers_start_over_when_the_list_changes_and_only_then() {
    let fast = |settings: Settings| settings.with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
    let denying = Denying::start_with(fast).await;
    let (_, id) = denying.key().await;
    let mut client = WatchServiceClient::new(denying.service.channel.clone());
    let mut watching = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();
    for lines in [&*id, "# nobody"] {
        denying.deny(lines);
        loop {
            let message = watching.message().await.unwrap().unwrap();
            if let Some(Event::StartOver(event)) = message.event {
                assert!(event.reason.contains("deny list"), "{event:?}");
                break;
            }
        }
    }
    denying.deny("# somebody else's words");
    for _ in 0..2 {
        let message = watching.message().await.unwrap().unwrap();
        assert!(!matches!(message.event, Some(Event::StartOver(_))), "nothing has changed: {message:?}");
    }
}
