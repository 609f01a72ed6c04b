//! Orphaned sessions, whose key or tenant has ended: they do not count against the limit, and are deleted.

use std::time::Duration;

use tenant_auth_proto::v1::{self, SessionExpiry, Verdict};
use tenant_auth_svc::config::Settings;
use tonic::Code;

use crate::harness::{
    NOW, TestService,
    sessions::{SessionReplicas, bind_session, session_client, validate_session, verdict_and_source},
};

/// Starts replicas with a limit of two sessions per tenant.
async fn replicas_with_session_limit() -> SessionReplicas {
    SessionReplicas::start_with(|settings: Settings| {
        settings.with_flag("TENANT_AUTH_SESSIONS_PER_TENANT", Some("2".to_owned()))
    })
    .await
}

/// Binds a session for a day, which must succeed.
async fn bind_for_a_day(service: &TestService, id: &str, key: &str) {
    let bound = bind_session(service, id, key, 86_400, SessionExpiry::Fixed).await.unwrap();
    assert_eq!((bound.verdict(), bound.already_bound), (Verdict::Valid, false), "{id}");
}

async fn listed_sessions(replicas: &SessionReplicas) -> Vec<String> {
    let request = v1::ListSessionsRequest { tenant_id: replicas.tenant.clone(), ..Default::default() };
    let page = session_client(&replicas.first).list_sessions(request).await.unwrap().into_inner();
    page.sessions.into_iter().map(|session| session.session_id).collect()
}

/// The ways in which the key of a session can end, including by SQL.
const KEY_ENDINGS: [&str; 5] = ["revoked", "expired", "moved", "deleted", "expired with SQL"];

/// Ends the key that opened the sessions.
async fn end_key(replicas: &SessionReplicas, way: &str) {
    let server = replicas.database.server();
    let key_id = &replicas.key_id;
    match way {
        "revoked" => replicas.first.revoke_key(key_id).await,
        "expired" => replicas.clock.advance(Duration::from_secs(3_600)),
        "moved" => {
            let other = replicas.first.create_tenant("Other").await;
            let sql = format!("UPDATE api_keys SET tenant_id = '{other}' WHERE id = '{key_id}'");
            assert_eq!(server.execute(&sql), Ok(1));
        }
        "deleted" => {
            assert_eq!(server.execute(&format!("DELETE FROM api_keys WHERE id = '{key_id}'")), Ok(1));
        }
        _ => {
            let sql = format!("UPDATE api_keys SET expires_at = {} WHERE id = '{key_id}'", NOW.0 - 1);
            assert_eq!(server.execute(&sql), Ok(1));
        }
    }
}

#[tokio::test]
async fn sessions_of_ended_key_do_not_count_toward_tenant_limit() {
    for way in KEY_ENDINGS {
        let replicas = replicas_with_session_limit().await;
        let (second, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
        if way == "expired" {
            let at = NOW.0 + 3_600_000;
            let sql = format!("UPDATE api_keys SET expires_at = {at} WHERE id = '{}'", replicas.key_id);
            assert_eq!(replicas.database.server().execute(&sql), Ok(1));
        }
        for id in ["one", "two"] {
            bind_for_a_day(&replicas.first, id, &replicas.key).await;
        }
        let refused =
            bind_session(&replicas.first, "three", &second, 60, SessionExpiry::Fixed).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{way}: sessions of a live key count");
        assert_eq!(listed_sessions(&replicas).await.len(), 2);

        end_key(&replicas, way).await;
        assert_eq!(listed_sessions(&replicas).await, [] as [&str; 0], "{way}");
        for id in ["three", "four"] {
            bind_for_a_day(&replicas.first, id, &second).await;
        }
        let refused =
            bind_session(&replicas.first, "five", &second, 60, SessionExpiry::Fixed).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{way}: no more sessions than the limit");
    }
}

#[tokio::test]
async fn sessions_of_ended_key_are_swept() {
    for way in KEY_ENDINGS {
        let replicas = SessionReplicas::start().await;
        let (second, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
        bind_for_a_day(&replicas.first, "dead", &replicas.key).await;
        bind_for_a_day(&replicas.first, "alive", &second).await;
        if way == "expired" {
            let at = NOW.0 + 3_600_000;
            let sql = format!("UPDATE api_keys SET expires_at = {at} WHERE id = '{}'", replicas.key_id);
            assert_eq!(replicas.database.server().execute(&sql), Ok(1));
        }
        assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), 0, "{way}");
        end_key(&replicas, way).await;
        // If the key no longer exists or belongs to another tenant, the session is unbound in the meantime.
        let is_unbound = matches!(way, "moved" | "deleted");
        assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), u64::from(is_unbound), "{way}");
        replicas.clock.advance(Duration::from_secs(10 * 60 + 1));
        assert_eq!(replicas.second.running.sweep_sessions().await.unwrap(), u64::from(!is_unbound), "{way}");
        for replica in [&replicas.first, &replicas.second] {
            replica.poll_feed().await;
            assert_eq!(
                verdict_and_source(validate_session(replica, "dead", "", &[]).await).0,
                Verdict::Unbound,
                "{way}"
            );
            assert_eq!(
                verdict_and_source(validate_session(replica, "alive", "", &[]).await).0,
                Verdict::Valid,
                "{way}"
            );
        }
        let counts = replicas.database.server().query("SELECT sessions FROM session_counts").unwrap();
        assert_eq!(counts[0][0]["value"], "1", "{way}");
    }
}

/// A suspension that is lifted soon does not cost a tenant its sessions.
#[tokio::test]
async fn suspension_ends_sessions_for_good_after_ten_minutes() {
    let replicas = SessionReplicas::start().await;
    bind_for_a_day(&replicas.first, "session", &replicas.key).await;
    for (minutes, survives) in [(9, true), (11, false)] {
        let tenant_id = replicas.tenant.clone();
        let suspend = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: "unpaid".to_owned() };
        replicas.first.admin().suspend_tenant(suspend).await.unwrap();
        replicas.clock.advance(Duration::from_secs(minutes * 60));
        assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), u64::from(!survives));
        replicas
            .first
            .admin()
            .resume_tenant(v1::ResumeTenantRequest { tenant_id, ..Default::default() })
            .await
            .unwrap();
        let verdict = verdict_and_source(validate_session(&replicas.first, "session", "", &[]).await).0;
        assert_eq!(verdict, if survives { Verdict::Valid } else { Verdict::Unbound });
    }
}

/// Each sweep examines one page of opening keys, continues where the last one ended, and starts again at the
/// beginning.
#[tokio::test]
async fn session_sweep_pages_through_opening_keys() {
    let replicas = SessionReplicas::start().await;
    let server = replicas.database.server();
    let (tenant, end) = (&replicas.tenant, NOW.0 + 86_400_000);
    let series = "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 1200)";
    let bind = |id: &str, opener: &str, from: &str| {
        let sql = format!(
            "{from} (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, bind_id) \
             SELECT {id}, '{tenant}', {opener}, 1, {end}, 1, 0, 'x'"
        );
        server.execute(&if from.starts_with("WITH") { format!("{sql} FROM series") } else { sql }).unwrap()
    };
    let insert = "INSERT INTO session_bindings";
    let keys =
        "INSERT INTO api_keys (key_hash, id, tenant_id, created_at) SELECT randomblob(32), 'alive-' || n";
    let few = series.replace("1200", "250");
    assert_eq!(server.execute(&format!("{few} {keys}, '{tenant}', 1 FROM series")), Ok(250));
    assert_eq!(bind("'live' || n", "'alive-' || n", &format!("{few} {insert}")), 250);
    let many = format!("{series} {insert}");
    // Two sessions per key, and more sessions than one batch deletes.
    assert_eq!(bind("'a' || n", "'gone-' || n", &many), 1_200);
    assert_eq!(bind("'b' || n", "'gone-' || n", &many), 1_200);
    for swept in [0, 0, 2_400, 0] {
        assert_eq!(replicas.first.running.sweep_sessions().await.unwrap(), swept);
    }
    let rows = server.query("SELECT count(*) FROM session_bindings").unwrap();
    assert_eq!(rows[0][0]["value"], "250", "sessions of live keys are kept");
    // A session before the current position is found when the sweep starts again.
    assert_eq!(bind("'late'", "'aged'", insert), 1);
    let mut swept = 0;
    for _ in 0..4 {
        swept += replicas.first.running.sweep_sessions().await.unwrap();
    }
    assert_eq!(swept, 1);
}
