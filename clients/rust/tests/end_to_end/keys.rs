//! Validation and administration of keys.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use tenant_auth_client::{
    BindSession, Error, ImportedKey, KeyQuery, NotAdmitted, PresentedKey, Source, Verdict, proto,
};

use crate::harness::Service;

#[tokio::test]
async fn single_key_is_validated() {
    let service = Service::start().await;
    let key = service.key().await;
    let validation = service.client.validate(&key, &["orders:read"]).await.unwrap();
    assert!(validation.is_valid());
    let principal = validation.principal().unwrap();
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
async fn require_gives_a_principal_or_a_denial() {
    let service = Service::start().await;
    let key = service.key().await;
    let principal = service.client.require(&key, &["orders:read"]).await.unwrap();
    assert_eq!(principal.tenant_id(), "acme");
    let Err(NotAdmitted::Denied(denied)) = service.client.require(&key, &["orders:write"]).await else {
        unreachable!("the key lacks a scope");
    };
    assert_eq!(
        (denied.verdict(), denied.missing_scopes()),
        (Verdict::InsufficientScope, &["orders:write".to_owned()][..])
    );
    assert_eq!(denied.subject().key_id(), principal.key_id());
    assert_ne!(denied.provenance().source, Source::NoLookup);
    // A denial has no principal.
    assert_eq!(service.client.validate(&key, &["orders:write"]).await.unwrap().principal(), None);
    let unknown_key = PresentedKey::new("some-strange-key");
    let unknown = service.client.require(&unknown_key, &[]).await.unwrap_err();
    assert!(matches!(unknown, NotAdmitted::Denied(denied) if denied.verdict() == Verdict::Unknown));
    let undecided = service.client.require(&key, &["Not A Scope"]).await.unwrap_err();
    assert!(matches!(undecided, NotAdmitted::Undecided(Error::Invalid { .. })), "{undecided:?}");
    let session = service.client.require_session("nowhere", Some(&key), &[]).await.unwrap_err();
    assert!(matches!(session, NotAdmitted::Denied(denied) if denied.verdict() == Verdict::Unbound));
}

#[tokio::test]
async fn invalid_key_in_a_batch_fails_alone() {
    let service = Service::start().await;
    let key = service.key().await;
    let query = |text: &str| KeyQuery::new(PresentedKey::new(text));
    let queries = [
        query(key.expose()),
        query(""),
        query(&"x".repeat(10_000)),
        query(key.expose()).requires("Not A Scope"),
        query(key.expose()).requires("orders:read"),
        query(&"x".repeat(2 << 20)),
        query(key.expose()).requires("x".repeat(2 << 20)),
        KeyQuery {
            required_scopes: vec![String::new(); 1 << 20],
            ..KeyQuery::new(PresentedKey::new(key.expose()))
        },
    ];
    let outcomes = service.client.validate_batch(&queries).await.unwrap();
    assert_eq!(outcomes.len(), queries.len());
    for (index, outcome) in outcomes.iter().enumerate() {
        match index {
            0 | 4 => assert!(outcome.as_ref().unwrap().is_valid()),
            _ => assert!(matches!(outcome, Err(Error::Invalid { .. })), "{outcome:?}"),
        }
    }
    let too_long = service.client.validate_batch(&queries[5..6]).await.unwrap();
    assert!(matches!(too_long[..], [Err(Error::Invalid { .. })]), "{too_long:?}");
    let many: Vec<_> = (0..1_001).map(|_| query("x")).collect();
    let error = service.client.validate_batch(&many).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { message, .. } if message.contains("1001")), "{error:?}");
}

#[tokio::test]
async fn overlong_key_is_malformed_not_overload() {
    let service = Service::start().await;
    let (key, long) = (service.key().await, "x".repeat(5 << 20));
    let (client, long_key) = (&service.client, PresentedKey::new(long.as_str()));
    let minute = Duration::from_secs(60);
    let verdicts = [
        client.validate(&long_key, &[]).await.unwrap().verdict,
        client.validate_session("s", Some(&long_key), &[]).await.unwrap().verdict,
        client.bind_session(BindSession::new("s", minute), &long_key).await.unwrap().verdict,
    ];
    assert_eq!(verdicts, [Verdict::Malformed; 3]);
    let errors = [
        client.validate_session(&long, None, &[]).await.unwrap_err(),
        client.bind_session(BindSession::new(long.as_str(), minute), &key).await.unwrap_err(),
        client.unbind_session(&long, "acme").await.unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(&error, Error::Invalid { violations, .. } if violations[0].field == "session_id"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn batch_keeps_order() {
    let service = Service::start().await;
    let key = service.key().await;
    let query = |text: &str| KeyQuery::new(PresentedKey::new(text));
    let queries = [
        query("some-strange-key"),
        query(key.expose()).requires("orders:read"),
        query("ta_short"),
        query(key.expose()).requires("orders:write"),
    ];
    let outcomes = service.client.validate_batch(&queries).await.unwrap();
    let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().verdict).collect();
    let expected = [Verdict::Unknown, Verdict::Valid, Verdict::Malformed, Verdict::InsufficientScope];
    assert_eq!(verdicts, expected);
    let empty = service.client.validate_batch(&[]).await;
    assert!(matches!(empty, Err(Error::Invalid { .. })), "{empty:?}");
}

#[tokio::test]
async fn stream_answers_all_and_survives_a_bad_request() {
    let service = Service::start().await;
    let key = service.key().await;
    let text = key.expose().to_owned();
    let queries = stream::iter(0..1_000).map(move |number| match number % 3 {
        0 => (number, KeyQuery::new(PresentedKey::new(text.as_str()))),
        1 => (number, KeyQuery::new(PresentedKey::new(format!("strange-key-{number}")))),
        _ => (number, KeyQuery::new(PresentedKey::new(""))),
    });
    let mut answers = service.client.validate_stream(queries).await.unwrap();
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
async fn admin_calls_report_their_outcomes() {
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
    let rejected = admin.rotate_key(rotation).await;
    assert!(matches!(rejected, Err(Error::FailedPrecondition { .. })), "{rejected:?}");
}
