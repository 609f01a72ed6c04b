//! What ends a session, and how soon all replicas know.

use std::time::Duration;

use tenant_auth_proto::v1::{self, SessionExpiry, Source, Verdict};
use tenant_auth_svc::config::Settings;
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    NOW,
    sessions::{SessionReplicas, bind_session, session_client, validate_session, verdict_and_source},
};

/// A part of the statement that looks sessions up.
const SESSION_LOOKUP: &str = "AS wanted";

/// If one replica ends a session, the other knows after one poll of the feed, and in an outage, too.
#[tokio::test]
async fn session_ended_on_one_replica_ends_on_all() {
    for (what, verdict) in [
        ("unbound", Verdict::Unbound),
        ("its key revoked", Verdict::Revoked),
        ("its tenant suspended", Verdict::TenantSuspended),
        ("deleted with SQL", Verdict::Unbound),
    ] {
        let replicas = SessionReplicas::start().await;
        replicas.bind_on_first("session-1").await;
        replicas.bind_on_first("session-2").await;
        replicas.poll_second().await;
        for id in ["session-1", "session-2"] {
            assert_eq!(replicas.validate_on_second(id).await, (Verdict::Valid, Source::Database));
            assert_eq!(
                verdict_and_source(validate_session(&replicas.first, id, "", &[]).await).0,
                Verdict::Valid
            );
        }
        let tenant_id = replicas.tenant.clone();
        match what {
            "unbound" => {
                let request = v1::UnbindSessionRequest {
                    session_id: "session-1".to_owned(),
                    tenant_id,
                    ..Default::default()
                };
                let ended = session_client(&replicas.first).unbind_session(request).await.unwrap();
                assert!(ended.into_inner().was_bound);
            }
            "its key revoked" => replicas.first.revoke_key(&replicas.key_id).await,
            "its tenant suspended" => {
                let request = v1::SuspendTenantRequest { tenant_id, reason: "unpaid".to_owned() };
                replicas.first.admin().suspend_tenant(request).await.unwrap();
            }
            _ => {
                let server = replicas.database.server();
                server.execute("DELETE FROM session_bindings WHERE session_id = 'session-1'").unwrap();
                replicas.first.poll_feed().await;
            }
        }
        assert_eq!(
            verdict_and_source(validate_session(&replicas.first, "session-1", "", &[]).await).0,
            verdict,
            "{what}: here"
        );
        replicas.poll_second().await;
        replicas.database.server().faults().set(Fault::ResetBeforeExecute);
        assert_eq!(
            replicas.validate_on_second("session-1").await,
            (verdict, Source::Stale),
            "{what}: in an outage"
        );
        replicas.database.server().faults().clear();
        replicas.clock.advance(Duration::from_secs(1));
        assert_eq!(replicas.validate_on_second("session-1").await.0, verdict, "{what}: there");
        let other = replicas.validate_on_second("session-2").await;
        if verdict == Verdict::Unbound {
            assert_eq!(other, (Verdict::Valid, Source::Fresh), "{what}: other sessions are not affected");
        } else {
            assert_eq!(other.0, verdict, "{what}: all sessions of the tenant end");
        }
    }
}

#[tokio::test]
async fn session_ends_at_earlier_of_own_and_key_expiry() {
    let replicas = SessionReplicas::start().await;
    let request = v1::IssueKeyRequest {
        tenant_id: replicas.tenant.clone(),
        expires_at: Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 30, nanos: 0 }),
        ..Default::default()
    };
    let short = replicas.first.admin().issue_key(request).await.unwrap().into_inner().plaintext;
    replicas.bind_on_first("by-its-time").await;
    bind_session(&replicas.first, "by-its-key", &short, 60, SessionExpiry::Fixed).await.unwrap();
    let answer = validate_session(&replicas.second, "by-its-key", "", &[]).await.unwrap();
    assert_eq!(answer.expires_at.unwrap().seconds, NOW.0 / 1_000 + 30);
    assert_eq!(replicas.validate_on_second("by-its-time").await.0, Verdict::Valid);

    // A session whose end was known before an outage has ended during it, too.
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    replicas.clock.advance(Duration::from_secs(30));
    assert_eq!(replicas.validate_on_second("by-its-key").await, (Verdict::Expired, Source::Stale));
    assert_eq!(replicas.validate_on_second("by-its-time").await, (Verdict::Valid, Source::Stale));
    replicas.clock.advance(Duration::from_secs(30));
    assert_eq!(replicas.validate_on_second("by-its-time").await, (Verdict::SessionExpired, Source::Stale));

    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    let again =
        bind_session(&replicas.first, "by-its-time", &replicas.key, 60, SessionExpiry::Fixed).await.unwrap();
    assert!(!again.already_bound, "an expired session is bound again");
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second("by-its-time").await.0, Verdict::Valid);
}

#[tokio::test]
async fn sliding_session_lives_while_used_on_any_replica() {
    let replicas = SessionReplicas::start().await;
    bind_session(&replicas.first, "sliding", &replicas.key, 60, SessionExpiry::Sliding).await.unwrap();
    // Used on one replica only, for ten times its time to live.
    for _ in 0..30 {
        replicas.clock.advance(Duration::from_secs(20));
        assert_eq!(
            verdict_and_source(validate_session(&replicas.first, "sliding", "", &[]).await).0,
            Verdict::Valid
        );
        replicas.first.running.flush_pending_writes().await.unwrap();
    }
    assert_eq!(
        replicas.validate_on_second("sliding").await.0,
        Verdict::Valid,
        "the other replica reads the extended expiry"
    );
    // The other replica has cached an expiry that is extended elsewhere.
    for _ in 0..4 {
        replicas.clock.advance(Duration::from_secs(20));
        validate_session(&replicas.first, "sliding", "", &[]).await.unwrap();
        replicas.first.running.flush_pending_writes().await.unwrap();
    }
    assert_eq!(
        replicas.validate_on_second("sliding").await,
        (Verdict::Valid, Source::Database),
        "read, not assumed"
    );

    // During an outage the session is valid on the replica that uses it. A replica that cannot decide does
    // not deny it.
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    for _ in 0..10 {
        replicas.clock.advance(Duration::from_secs(20));
        let here = verdict_and_source(validate_session(&replicas.first, "sliding", "", &[]).await);
        assert_eq!(here, (Verdict::Valid, Source::Stale));
    }
    let there = validate_session(&replicas.second, "sliding", "", &[]).await.unwrap_err();
    assert_eq!(there.code(), Code::Unavailable);
    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(1));
    assert_eq!(
        verdict_and_source(validate_session(&replicas.first, "sliding", "", &[]).await).0,
        Verdict::Valid
    );
    replicas.first.running.flush_pending_writes().await.unwrap();
    assert_eq!(replicas.validate_on_second("sliding").await.0, Verdict::Valid);

    replicas.clock.advance(Duration::from_secs(61));
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(
            verdict_and_source(validate_session(service, "sliding", "", &[]).await).0,
            Verdict::SessionExpired
        );
    }
}

#[tokio::test]
async fn load_overlapping_unbind_does_not_restore_session() {
    let long_timeouts = |settings: Settings| {
        settings
            .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()))
    };
    let replicas = SessionReplicas::start_with(long_timeouts).await;
    replicas.bind_on_first("session-1").await;
    let server = replicas.database.server();
    let statements = server.counters().statements;
    server.faults().set_where(SESSION_LOOKUP, 1, Fault::HangAfterExecute);
    let loading = validate_session(&replicas.first, "session-1", "", &[]);
    let meanwhile = async {
        server.wait_for(|counters| counters.statements > statements).await;
        let tenant_id = replicas.tenant.clone();
        let request =
            v1::UnbindSessionRequest { session_id: "session-1".to_owned(), tenant_id, ..Default::default() };
        session_client(&replicas.first).unbind_session(request).await.unwrap();
        server.faults().clear();
    };
    let (loaded, ()) = tokio::join!(loading, meanwhile);
    assert_eq!(
        verdict_and_source(loaded).0,
        Verdict::Unbound,
        "the known end takes precedence over the row read"
    );
    assert_eq!(
        verdict_and_source(validate_session(&replicas.first, "session-1", "", &[]).await).0,
        Verdict::Unbound
    );
}

/// Sessions belong to the tenant of their key at the time of binding. A key that moves to another tenant
/// takes no session along and leaves no valid one behind.
#[tokio::test]
async fn session_is_unbound_when_its_key_moves_to_other_tenant() {
    let replicas = SessionReplicas::start().await;
    replicas.bind_on_first("session-1").await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second("session-1").await.0, Verdict::Valid);
    let other = replicas.first.create_tenant("Other").await;
    let (second, second_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    let sql = format!("UPDATE api_keys SET tenant_id = '{other}' WHERE id = '{}'", replicas.key_id);
    assert_eq!(replicas.database.server().execute(&sql), Ok(1));
    for replica in [&replicas.first, &replicas.second] {
        replica.poll_feed().await;
        assert_eq!(
            verdict_and_source(validate_session(replica, "session-1", "", &[]).await).0,
            Verdict::Unbound
        );
    }
    // Its tenant may bind it again, as any session whose key is gone.
    let anew = bind_session(&replicas.first, "session-1", &second, 60, SessionExpiry::Fixed).await.unwrap();
    assert_eq!((anew.verdict(), anew.already_bound), (Verdict::Valid, false));
    assert_eq!(anew.session.unwrap().key_id, second_id);
    replicas.clock.advance(Duration::from_secs(10));
    assert_eq!(replicas.validate_on_second("session-1").await.0, Verdict::Valid);
}
