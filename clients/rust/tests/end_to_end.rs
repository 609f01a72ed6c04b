//! The client against a real service with an embedded database.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;
use tenant_auth_client::{
    AdminClient, BindSession, Client, DatabaseKind, Error, ImportedKey, PresentedKey, Question, Source,
    Verdict, proto,
};
use tenant_auth_svc::{
    app::{self, Running},
    config::{ServiceConfig, Settings},
    domain::clock::SystemClock,
};

struct Service {
    client: Client,
    running: Running,
    _folder: TempDir,
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("file:{}", folder.path().join("test.db").display());
        let settings = Settings::from_environment()
            .restricted_to(|_| false)
            .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(database));
        let (config, _) = ServiceConfig::read(settings).unwrap();
        let mut running = app::start(config, SystemClock::shared()).await.unwrap();
        running.ready().await.unwrap();
        let endpoint = format!("http://{}", running.address());
        let client = Client::builder(endpoint).connect().await.unwrap();
        Self { client, running, _folder: folder }
    }

    fn admin(&self) -> AdminClient {
        self.client.admin()
    }

    /// A key of the tenant `acme` that may read orders.
    async fn key(&self) -> PresentedKey {
        let tenant = proto::CreateTenantRequest {
            tenant_id: "acme".to_owned(),
            name: "Acme".to_owned(),
            plan: "pro".to_owned(),
        };
        let tenant = self.admin().create_tenant(tenant).await.unwrap();
        let order = proto::IssueKeyRequest {
            tenant_id: tenant.tenant_id,
            scopes: vec!["orders:read".to_owned()],
            ..Default::default()
        };
        self.admin().issue_key(order).await.unwrap().plaintext
    }
}

#[tokio::test]
async fn one_key_is_decided_about() {
    let service = Service::start().await;
    let key = service.key().await;
    let validation = service.client.validate(&key, &["orders:read"]).await.unwrap();
    assert!(validation.is_valid());
    let principal = validation.principal;
    assert_eq!((principal.tenant_id(), principal.plan()), ("acme", "pro"));
    assert_eq!(principal.expires_at(), None);
    assert_ne!(validation.provenance.source, Source::NoLookup);

    let denied = service.client.validate(&key, &["orders:write"]).await.unwrap();
    assert_eq!(denied.verdict, Verdict::InsufficientScope);
    assert_eq!(denied.missing_scopes, ["orders:write"]);

    let error = service.client.validate(&key, &["Not A Scope"]).await.unwrap_err();
    let Error::Invalid { violations, .. } = error else {
        unreachable!("{error:?}");
    };
    assert_eq!(violations[0].field, "required_scopes[0]");
}

#[tokio::test]
async fn a_batch_keeps_its_order() {
    let service = Service::start().await;
    let key = service.key().await;
    let question = |text: &str| Question::new(PresentedKey::new(text));
    let questions = [
        question("some-strange-key"),
        question(key.expose()).requires("orders:read"),
        question("ta_short"),
        question(key.expose()).requires("orders:write"),
    ];
    let outcomes = service.client.validate_batch(&questions).await.unwrap();
    let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().verdict).collect();
    let expected = [Verdict::Unknown, Verdict::Valid, Verdict::Malformed, Verdict::InsufficientScope];
    assert_eq!(verdicts, expected);
    let empty = service.client.validate_batch(&[]).await;
    assert!(matches!(empty, Err(Error::Invalid { .. })), "{empty:?}");
}

#[tokio::test]
async fn a_stream_answers_every_question_and_survives_a_bad_one() {
    let service = Service::start().await;
    let key = service.key().await;
    let text = key.expose().to_owned();
    let questions = stream::iter(0..1_000).map(move |number| match number % 3 {
        0 => (number, Question::new(PresentedKey::new(text.as_str()))),
        1 => (number, Question::new(PresentedKey::new(format!("strange-key-{number}")))),
        _ => (number, Question::new(PresentedKey::new(""))),
    });
    let mut answers = service.client.validate_stream(questions).await.unwrap();
    let mut seen = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let previous = seen.insert(answer.correlation_id, answer.outcome);
        assert!(previous.is_none(), "{} twice", answer.correlation_id);
    }
    assert_eq!(seen.len(), 1_000);
    for (number, outcome) in seen {
        match number % 3 {
            0 => assert_eq!(outcome.unwrap().verdict, Verdict::Valid),
            1 => assert_eq!(outcome.unwrap().verdict, Verdict::Unknown),
            _ => assert!(matches!(outcome, Err(Error::Invalid { .. })), "{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn administration_says_what_became_of_it() {
    let service = Service::start().await;
    let admin = service.admin();
    let missing = admin.get_tenant("nobody").await.unwrap_err();
    let Error::NotFound { reason, .. } = missing else {
        unreachable!("{missing:?}");
    };
    assert_eq!(reason.as_deref(), Some("NO_SUCH_TENANT"));

    service.key().await;
    let row = |tenant: &str, byte| proto::ImportKey {
        tenant_id: tenant.to_owned(),
        sha256: vec![byte; 32],
        ..Default::default()
    };
    let rows = vec![row("acme", 1), row("nobody", 2)];
    let outcomes = admin.import_keys(rows.clone()).await.unwrap();
    assert!(matches!(outcomes[0], Ok(ImportedKey::New { .. })), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(Error::NotFound { .. })), "{outcomes:?}");
    let outcomes = admin.import_keys(rows).await.unwrap();
    assert!(matches!(outcomes[0], Ok(ImportedKey::Existing { .. })), "{outcomes:?}");

    let page = proto::ListKeysRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let key_id = admin.list_keys(page).await.unwrap().keys[0].key_id.clone();
    admin.revoke_key(&key_id, "test").await.unwrap();
    let rotation = proto::RotateKeyRequest { key_id, ..Default::default() };
    let refused = admin.rotate_key(rotation).await;
    assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "{refused:?}");
}

#[tokio::test]
async fn usage_is_counted_once_and_summed() {
    let service = Service::start().await;
    service.key().await;
    let event = |tenant: &str, quantity| proto::UsageEvent {
        tenant_id: tenant.to_owned(),
        metric: "api.calls".to_owned(),
        quantity,
        occurred_at: None,
    };
    let events = vec![event("acme", 2), event("nobody", 1), event("acme", 3)];
    for already in [false, true] {
        let recorded = service.client.record_usage("r-1", events.clone()).await.unwrap();
        assert_eq!((recorded.accepted, recorded.already_recorded), (2, already));
        assert!(matches!(recorded.rejected[..], [(1, Error::NotFound { .. })]), "{recorded:?}");
    }
    let other = service.client.record_usage("r-1", vec![event("acme", 9)]).await;
    assert!(matches!(other, Err(Error::AlreadyExists { .. })), "{other:?}");

    let mut query = proto::QueryUsageRequest {
        tenant_id: "acme".to_owned(),
        start_time: Some(std::time::UNIX_EPOCH.into()),
        end_time: Some((std::time::SystemTime::now() + Duration::from_secs(3_600)).into()),
        ..Default::default()
    };
    let page = service.client.query_usage_page(query.clone()).await.unwrap();
    assert_eq!(page.sums.iter().map(|sum| sum.quantity).sum::<i64>(), 5);
    query.tenant_id = "nobody".to_owned();
    let missing = service.client.query_usage_page(query).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_service_that_stopped_is_unreachable() {
    let service = Service::start().await;
    let info = service.client.server_info().await.unwrap();
    assert_eq!(info.database, DatabaseKind::Embedded);
    service.running.stop().await;
    let gone = service.client.server_info().await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
}

#[tokio::test]
async fn sessions_are_bound_and_validated_and_listed_and_end() {
    let service = Service::start().await;
    let (client, key) = (&service.client, service.key().await);
    let hour = Duration::from_secs(3_600);
    let session = |id: &str| BindSession::new(id, hour).sliding().attribute("client", "desktop");
    let bound = client.bind_session(session("s-0"), &key).await.unwrap();
    assert_eq!((bound.verdict, bound.already_bound), (Verdict::Valid, false));
    let bound = bound.session.unwrap();
    assert_eq!((bound.session_id.as_str(), bound.tenant_id.as_str()), ("s-0", "acme"));
    assert_eq!(bound.expires_at.duration_since(bound.created_at).unwrap(), hour);
    assert!(client.bind_session(session("s-0"), &key).await.unwrap().already_bound);

    let validation = client.validate_session("s-0", Some(&key), &["orders:read"]).await.unwrap();
    assert!(validation.is_valid());
    assert_eq!(validation.principal.attributes()["client"], "desktop");
    let denied = client.validate_session("s-0", None, &["orders:write"]).await.unwrap();
    assert_eq!(denied.missing_scopes, ["orders:write"]);
    let stranger = PresentedKey::new("some-strange-key");
    let refused = client.bind_session(session("s-9"), &stranger).await.unwrap();
    assert_eq!((refused.verdict, refused.session), (Verdict::Unknown, None));

    // More than a page of the stream.
    for number in 1..=501 {
        client.bind_session(session(&format!("s-{number}")), &key).await.unwrap();
    }
    let sessions: Vec<_> = client.list_sessions("acme").try_collect().await.unwrap();
    assert_eq!(sessions.len(), 502);
    let page = client.list_sessions_page("acme", 2, String::new()).await.unwrap();
    assert_eq!(page.sessions, sessions[..2]);
    let bad: Result<Vec<_>, _> = client.list_sessions("not a tenant").try_collect().await;
    assert!(matches!(bad, Err(Error::Invalid { .. })), "{bad:?}");

    assert!(client.unbind_session("s-0", "acme").await.unwrap());
    assert!(!client.unbind_session("s-0", "acme").await.unwrap());
    let over = client.validate_session("s-0", None, &[]).await.unwrap();
    assert_eq!((over.verdict, over.principal.tenant_id()), (Verdict::Unbound, ""));
}
