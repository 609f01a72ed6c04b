//! Sessions: permissions to bind, and the cost.

mod orphaned;
mod termination;

use std::time::Duration;

use tenant_auth_proto::v1::{self, SessionExpiry, Source, Verdict};
use tenant_auth_svc::config::Settings;
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService, owned,
    sessions::{SessionReplicas, bind_session, session_client, validate_session, verdict_and_source},
    unknown_key,
};

#[tokio::test]
async fn bound_session_returns_tenant_and_scopes() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, key_id) = service.issue_key(&tenant, &["a", "b"]).await;
        let id = format!("mcp-{}", unknown_key());
        assert_eq!(verdict_and_source(validate_session(&service, &id, "", &[]).await).0, Verdict::Unbound);
        let bound = bind_session(&service, &id, &key, 60, SessionExpiry::Unspecified).await.unwrap();
        assert_eq!(bound.verdict(), Verdict::Valid);
        let session = bound.session.unwrap();
        assert_eq!((session.tenant_id, session.key_id), (tenant.clone(), key_id.clone()));
        assert_eq!(session.expiry, i32::from(SessionExpiry::Fixed));

        let answer = validate_session(&service, &id, "", &["a"]).await.unwrap();
        assert_eq!(answer.verdict(), Verdict::Valid, "the earlier negative entry is invalidated");
        assert_eq!((&answer.tenant_id, &*answer.tenant_name, &*answer.plan), (&tenant, "Acme", "pro"));
        assert_eq!((answer.key_id, answer.scopes), (key_id, owned(&["a", "b"])));
        assert_eq!(answer.expires_at, session.expires_at);
        assert_eq!(answer.attributes["user"], "alice");
        assert_eq!(
            verdict_and_source(validate_session(&service, &id, &key, &["b"]).await),
            (Verdict::Valid, Source::Fresh)
        );
        let lacking = validate_session(&service, &id, "", &["a", "c"]).await.unwrap();
        assert_eq!((lacking.verdict(), lacking.missing_scopes), (Verdict::InsufficientScope, owned(&["c"])));

        let again = bind_session(&service, &id, &key, 3_600, SessionExpiry::Sliding).await.unwrap();
        assert!(again.already_bound);
        assert_eq!(again.session.unwrap().expires_at, session.expires_at, "the session is unchanged");
    }
}

/// Some MCP servers use tokens as session ids.
#[tokio::test]
async fn session_id_may_be_as_long_as_a_token() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, _) = service.issue_key(&tenant, &[]).await;
        let id = format!("{:~>1024}", unknown_key());
        bind_session(&service, &id, &key, 60, SessionExpiry::Sliding).await.unwrap();
        assert_eq!(verdict_and_source(validate_session(&service, &id, &key, &[]).await).0, Verdict::Valid);
        let list = v1::ListSessionsRequest { tenant_id: tenant.clone(), ..Default::default() };
        let listed = session_client(&service).list_sessions(list).await.unwrap().into_inner().sessions;
        assert_eq!(listed[0].session_id, id);
        let unbind =
            v1::UnbindSessionRequest { session_id: id.clone(), tenant_id: tenant, ..Default::default() };
        assert!(session_client(&service).unbind_session(unbind).await.unwrap().into_inner().was_bound);
        assert_eq!(verdict_and_source(validate_session(&service, &id, "", &[]).await).0, Verdict::Unbound);

        let longer = bind_session(&service, &format!("{id}~"), &key, 60, SessionExpiry::Fixed).await;
        let violations =
            longer.unwrap_err().get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(violations[0].field, "session_id");
        assert_eq!(violations[0].description, "must have at most 1024 characters");
    }
}

#[tokio::test]
async fn session_is_invisible_to_other_tenants() {
    let replicas = SessionReplicas::start().await;
    replicas.bind_on_first("session-1").await;
    let other_tenant = replicas.second.create_tenant("Mallory").await;
    let (key, _) = replicas.second.issue_key(&other_tenant, &["a"]).await;
    let taken = bind_session(&replicas.second, "session-1", &key, 60, SessionExpiry::Fixed).await.unwrap();
    assert_eq!((taken.verdict(), taken.session), (Verdict::TenantMismatch, None));
    let response = validate_session(&replicas.second, "session-1", &key, &[]).await.unwrap();
    assert_eq!(response.verdict(), Verdict::TenantMismatch);
    assert_eq!((&*response.tenant_id, &*response.key_id, response.expires_at), ("", "", None));
    assert!(response.attributes.is_empty());
    let unbind = v1::UnbindSessionRequest {
        session_id: "session-1".to_owned(),
        tenant_id: other_tenant,
        ..Default::default()
    };
    assert!(!session_client(&replicas.second).unbind_session(unbind).await.unwrap().into_inner().was_bound);
    assert_eq!(replicas.validate_on_second("session-1").await.0, Verdict::Valid);

    // An invalid key is reported with its verdict, whatever the tenant.
    for (key, verdict) in [(unknown_key(), Verdict::Unknown), (format!("{key}x"), Verdict::Malformed)] {
        assert_eq!(
            verdict_and_source(validate_session(&replicas.second, "session-1", &key, &[]).await).0,
            verdict
        );
        let bound =
            bind_session(&replicas.second, "session-2", &key, 60, SessionExpiry::Fixed).await.unwrap();
        assert_eq!((bound.verdict(), bound.session), (verdict, None));
    }
}

#[tokio::test]
async fn cached_session_validation_uses_no_database() {
    let replicas = SessionReplicas::start().await;
    bind_session(&replicas.first, "fixed", &replicas.key, 60, SessionExpiry::Fixed).await.unwrap();
    bind_session(&replicas.first, "sliding", &replicas.key, 60, SessionExpiry::Sliding).await.unwrap();
    for id in ["fixed", "sliding"] {
        replicas.validate_on_second(id).await;
    }
    let requests = replicas.database.caller_requests();
    for (id, reusable) in [("fixed", true), ("sliding", false)] {
        let provenance = validate_session(&replicas.second, id, "", &[]).await.unwrap().provenance.unwrap();
        let reusable_for = provenance.cacheable_for.unwrap();
        assert_eq!(reusable_for.nanos > 0 || reusable_for.seconds > 0, reusable, "{id}");
    }
    for id in ["fixed", "sliding"].repeat(100) {
        assert_eq!(replicas.validate_on_second(id).await, (Verdict::Valid, Source::Fresh));
    }
    replicas.second.running.flush_pending_writes().await.unwrap();
    assert_eq!(replicas.database.caller_requests(), requests);
    assert_eq!(replicas.database.server().requests_with("UPDATE session_bindings"), 0, "nothing to write");
}

#[tokio::test]
async fn session_limit_per_tenant_is_enforced() {
    let capped =
        |settings: Settings| settings.with_flag("TENANT_AUTH_SESSIONS_PER_TENANT", Some("2".to_owned()));
    let replicas = SessionReplicas::start_with(capped).await;
    replicas.bind_on_first("one").await;
    replicas.bind_on_first("two").await;
    let refused =
        bind_session(&replicas.first, "three", &replicas.key, 60, SessionExpiry::Fixed).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "TOO_MANY_SESSIONS");
    assert!(details.retry_info().is_none(), "a retry would not help");
    replicas.clock.advance(Duration::from_secs(60));
    replicas.bind_on_first("three").await;
}

#[tokio::test]
async fn sessions_are_listed_newest_first_and_swept_after_expiry() {
    let replicas = SessionReplicas::start().await;
    for number in 0..5 {
        replicas.bind_on_first(&format!("session-{number}")).await;
        replicas.clock.advance(Duration::from_secs(1));
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let tenant_id = replicas.tenant.clone();
        let request = v1::ListSessionsRequest { tenant_id, page_size: 2, page_token };
        let page = session_client(&replicas.first).list_sessions(request).await.unwrap().into_inner();
        listed.extend(page.sessions.into_iter().map(|session| session.session_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["session-4", "session-3", "session-2", "session-1", "session-0"]);
    let unknown = v1::ListSessionsRequest { tenant_id: "nobody".to_owned(), ..Default::default() };
    assert_eq!(
        session_client(&replicas.first).list_sessions(unknown).await.unwrap_err().code(),
        Code::NotFound
    );

    assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), 0);
    replicas.clock.advance(Duration::from_secs(60 + 10 * 60 - 2));
    assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), 3, "ten minutes after their expiry");
    assert_eq!(
        verdict_and_source(validate_session(&replicas.second, "session-0", "", &[]).await).0,
        Verdict::Unbound
    );
    assert_eq!(
        verdict_and_source(validate_session(&replicas.second, "session-4", "", &[]).await).0,
        Verdict::SessionExpired
    );
}

/// If the database loses the response to a binding, the caller can repeat the request.
#[tokio::test]
async fn binding_with_lost_response_is_made_once() {
    let replicas = SessionReplicas::start().await;
    replicas.database.server().faults().set_where("INSERT INTO session_bindings", 1, Fault::ResetAfterCommit);
    let bound = bind_session(&replicas.first, "lost", &replicas.key, 60, SessionExpiry::Fixed).await.unwrap();
    assert_eq!(
        (bound.verdict(), bound.already_bound),
        (Verdict::Valid, false),
        "the retry recognizes its own binding"
    );
    replicas.database.server().faults().set(Fault::html_ok());
    let failed =
        bind_session(&replicas.first, "broken", &replicas.key, 60, SessionExpiry::Fixed).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    let failed = validate_session(&replicas.first, "broken", "", &[]).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "the session is never reported as unbound");
    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(
        verdict_and_source(validate_session(&replicas.first, "broken", "", &[]).await).0,
        Verdict::Unbound
    );
}
