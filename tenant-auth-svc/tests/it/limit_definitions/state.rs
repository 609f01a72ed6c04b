//! What is used of limits, as `GetLimitState` returns it.

use tenant_auth_proto::v1::{
    self, get_limit_state_request::Subject, limit_service_client::LimitServiceClient,
};
use tenant_auth_svc::domain::clock::ManualClock;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    NOW, TestDatabase, TestService,
    limits::{limit_of, per_day, set_limit},
    violated_fields,
};

async fn state(service: &TestService, subject: Option<Subject>) -> Result<Vec<v1::LimitState>, Status> {
    let request = v1::GetLimitStateRequest { subject };
    let states = LimitServiceClient::new(service.channel.clone()).get_limit_state(request).await?;
    Ok(states.into_inner().limits)
}

fn tenant(id: &str) -> Option<Subject> {
    Some(Subject::TenantId(id.to_owned()))
}

fn key(id: &str) -> Option<Subject> {
    Some(Subject::KeyId(id.to_owned()))
}

/// Returns used, leased, reserved, unaccounted and remaining.
fn amounts(state: &v1::LimitState) -> [i64; 5] {
    [state.used, state.leased, state.reserved, state.unaccounted, state.remaining]
}

#[tokio::test]
async fn unused_limits_are_full() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let id = service.create_tenant("Acme").await;
        let (_, key_id) = service.issue_key(&id, &[]).await;
        assert_eq!(state(&service, tenant(&id)).await.unwrap(), [], "{}", database.name());
        let rate = v1::limit::Rule::Rate(v1::Rate { amount: 10, per: None, burst: 20 });
        let credits = v1::limit::Rule::Credits(v1::Credits { initial: 7, refill: None });
        for (subject, name, rule) in [
            (&id, "a.daily", per_day(100)),
            (&id, "b.burst", rate),
            (&id, "c.tokens", credits),
            (&key_id, "a.daily", per_day(5)),
        ] {
            service.admin().set_limit(set_limit(limit_of(subject, name, rule))).await.unwrap();
        }
        for (subject, remaining) in [(tenant(&id), [100, 20, 7]), (key(&key_id), [5, 20, 7])] {
            let states = state(&service, subject).await.unwrap();
            let expected = remaining.map(|remaining| [0, 0, 0, 0, remaining]);
            assert_eq!(states.iter().map(amounts).collect::<Vec<_>>(), expected);
            let [daily, burst, tokens] = &states[..] else { panic!("{states:?}") };
            assert!(daily.window_start.is_some() && daily.reset_after.is_some());
            assert_eq!((burst.window_start, tokens.window_start), (None, None));
            assert_eq!((burst.reset_after, tokens.reset_after), (Some(Default::default()), None));
            assert!(daily.limit.as_ref().unwrap().version > 0);
        }
    }
}

#[tokio::test]
async fn what_replicas_and_reservations_hold_is_not_used() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let id = service.create_tenant("Acme").await;
    let rate = v1::limit::Rule::Rate(v1::Rate { amount: 10, per: None, burst: 20 });
    for (name, rule) in [("burst", rate), ("daily", per_day(100))] {
        service.admin().set_limit(set_limit(limit_of(&id, name, rule))).await.unwrap();
    }
    let (day, now) = (NOW.0 - NOW.0 % 86_400_000, NOW.0);
    for row in [
        format!("('{id}', '', 'daily', 'day', {day}, {day}, 90, 20, 10, 5, 0, {now})"),
        format!("('{id}', '', 'burst', 'rate', 0, {now}, 0, 4, 0, 0, 2500, {now})"),
    ] {
        let sql = format!(
            "INSERT INTO limit_counters (tenant_id, key_id, name, kind, window_start, window_end, counted, leased, reserved, \
             unaccounted, tokens, refreshed_at) VALUES {row}"
        );
        assert_eq!(database.server().execute(&sql), Ok(1));
    }
    let states = state(&service, tenant(&id)).await.unwrap();
    assert_eq!(states.iter().map(amounts).collect::<Vec<_>>(), [[14, 4, 0, 0, 2], [55, 20, 10, 5, 10]]);
    let (start, end) = (states[1].window_start.unwrap(), states[1].reset_after.unwrap());
    assert_eq!(start.seconds, day / 1_000);
    assert_eq!(end.seconds, (day + 86_400_000 - now) / 1_000);

    // The bucket fills by the database's clock.
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(amounts(&state(&service, tenant(&id)).await.unwrap()[0]), [4, 4, 0, 0, 12]);
}

#[tokio::test]
async fn state_of_nobody_is_an_error() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for (subject, field) in [(None, "subject"), (tenant(""), "tenant_id"), (key("a b"), "key_id")] {
        assert_eq!(violated_fields(state(&service, subject).await.unwrap_err()), [field]);
    }
    for (subject, reason) in [(tenant("nobody"), "NO_SUCH_TENANT"), (key("nobody"), "NO_SUCH_KEY")] {
        let refused = state(&service, subject).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, reason);
    }
}
