//! Guards of live streams with a fake service: when they validate again, and when they end.

mod streams;

use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, channel::mpsc, stream};
use tenant_auth_client::{Ended, NearCache, PresentedKey, Verdict, proto as v1};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use v1::InvalidationScope::{Key, Session, Tenant};

use crate::harness::{
    Pair, SECOND,
    guards::{at, continues, denied, ended, principal},
    server::{provenance, session, valid},
};

#[tokio::test]
async fn named_change_ends_only_its_streams_with_the_verdict() {
    let pair = Pair::watched().await;
    for key in ["a", "b"] {
        pair.fake.answer(key, valid(key));
    }
    let (a, b) = (principal(&pair.client, "a").await, principal(&pair.client, "b").await);
    let (items, source) = mpsc::unbounded();
    let mut guarded = pair.client.guard(&a, source).unwrap();
    let mut other = pair.client.guard_connection(&b).unwrap();
    items.unbounded_send(1).unwrap();
    assert_eq!(guarded.next().await, Some(Ok(1)));
    assert!(continues(&mut other).await);

    pair.fake.answer("a", at(2, denied(v1::Verdict::Revoked, valid("a"))));
    pair.fake.invalidate(2, Key, "key_a");
    let Some(Err(Ended::Denied(denied))) = timeout(SECOND * 60, guarded.next()).await.unwrap() else {
        unreachable!("the stream has ended otherwise")
    };
    assert_eq!(denied.verdict(), Verdict::Revoked);
    assert_eq!(guarded.next().await, None);
    assert!(items.is_closed(), "the source is dropped");
    assert!(continues(&mut other).await);
}

#[tokio::test]
async fn changes_of_tenant_and_session_and_lost_scopes_end_streams() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    pair.fake.answer_session("s", session());
    let of_key = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    let with_key = Some(PresentedKey::new("a"));
    let of_session = pair.client.require_session_guardable("s", with_key, &[]).await.unwrap();
    let of_session = pair.client.guard_connection(&of_session).unwrap();

    let unbound = v1::ValidateSessionResponse {
        verdict: v1::Verdict::Unbound.into(),
        provenance: Some(provenance(2)),
        ..Default::default()
    };
    pair.fake.answer_session("s", unbound);
    pair.fake.invalidate(2, Session, "s");
    assert_eq!(ended(of_session).await.code(), "UNBOUND");

    pair.fake.answer("a", at(3, v1::ValidateKeyResponse { scopes: Vec::new(), ..valid("a") }));
    pair.fake.invalidate(3, Tenant, "acme");
    assert_eq!(ended(of_key).await.code(), "INSUFFICIENT_SCOPE");
}

#[tokio::test]
async fn stream_of_a_key_that_is_still_valid_goes_on_after_changes_and_restarts() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    for revision in [2, 3] {
        let asked = pair.fake.asked();
        pair.fake.answer("a", at(revision, valid("a")));
        if revision == 2 {
            pair.fake.invalidate(revision, Key, "key_a");
        } else {
            pair.fake.start_over(revision);
        }
        while pair.fake.asked() == asked {
            assert!(continues(&mut guard).await);
        }
        assert!(continues(&mut guard).await);
    }
    pair.fake.answer("a", at(4, denied(v1::Verdict::Disabled, valid("a"))));
    pair.fake.start_over(4);
    assert_eq!(ended(guard).await.code(), "DISABLED");
}

#[tokio::test]
async fn answer_that_is_older_than_the_change_does_not_count() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    let asked = pair.fake.asked();
    // The replica that answers has not applied the change yet.
    pair.fake.invalidate(2, Key, "key_a");
    while pair.fake.asked() == asked {
        assert!(continues(&mut guard).await);
    }
    pair.fake.answer("a", at(2, denied(v1::Verdict::Revoked, valid("a"))));
    assert_eq!(ended(guard).await.code(), "REVOKED");
}

#[tokio::test]
async fn undecided_change_ends_the_stream_as_undecided() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    pair.fake.hold(true);
    pair.fake.invalidate(2, Key, "key_a");
    let end = ended(guard).await;
    pair.fake.hold(false);
    assert_eq!((end.code(), end.close_code()), ("UNDECIDED".to_owned(), 1_013));
    let status = Status::from(end);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNDECIDED");
}

#[tokio::test]
async fn stream_ends_at_the_expiry_unless_it_was_extended() {
    let pair = Pair::watched().await;
    let expiring =
        |key: &str, at: SystemTime| v1::ValidateKeyResponse { expires_at: Some(at.into()), ..valid(key) };
    let soon = SystemTime::now() + Duration::from_millis(300);
    pair.fake.answer("a", expiring("a", soon));
    pair.fake.answer("b", expiring("b", soon));
    let a = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    let mut b = pair.client.guard_connection(&principal(&pair.client, "b").await).unwrap();
    pair.fake.answer("b", at(2, expiring("b", soon + SECOND * 3_600)));
    pair.fake.invalidate(2, Key, "key_b");
    let end = ended(a).await;
    assert_eq!(end, Ended::Expired);
    assert_eq!(Status::from(end).code(), Code::Unauthenticated);
    assert!(SystemTime::now() >= soon);
    assert!(continues(&mut b).await);
}

#[tokio::test]
async fn expiry_is_judged_by_the_time_of_the_service() {
    let pair = Pair::watched().await;
    let hour = SECOND * 3_600;
    let expires_at = Some((SystemTime::now() + hour).into());
    pair.fake.answer("a", v1::ValidateKeyResponse { expires_at, ..valid("a") });
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    pair.fake.heartbeat_at(2, SystemTime::now() + hour * 2);
    pair.wait_until_revision(2).await;
    // The guard looks at the clock when it wakes.
    pair.fake.answer("a", v1::ValidateKeyResponse { expires_at, ..at(3, valid("a")) });
    pair.fake.invalidate(3, Key, "key_a");
    assert_eq!(ended(guard).await, Ended::Expired);
}

/// Ways in which the invalidation stream announces nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Silence {
    Down,
    Hung,
    Disabled,
}

#[tokio::test]
async fn guard_validates_again_while_the_stream_is_down_hung_or_disabled() {
    let silences = [Silence::Down, Silence::Hung, Silence::Disabled];
    let codes = futures::future::join_all(silences.map(code_in_silence)).await;
    assert_eq!(codes, ["REVOKED"; 3]);
}

/// Returns how a stream ends whose key is revoked in silence.
async fn code_in_silence(silence: Silence) -> String {
    let pair = match silence {
        Silence::Down | Silence::Hung => Pair::watched().await,
        Silence::Disabled => Pair::with(|builder| builder.near_cache(NearCache::new().unwatched())).await,
    };
    let short = |answer: v1::ValidateKeyResponse| {
        let provenance = v1::Provenance { cacheable_for: Some(SECOND.try_into().unwrap()), ..provenance(1) };
        v1::ValidateKeyResponse { provenance: Some(provenance), ..answer }
    };
    pair.fake.answer("a", short(valid("a")));
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    if silence == Silence::Down {
        pair.fake.without_watch();
        pair.fake.drop_streams();
        pair.fake.watched(2).await;
    }
    pair.fake.answer("a", short(denied(v1::Verdict::Revoked, valid("a"))));
    // The cached answers are old by now.
    pair.clock.advance(SECOND * 100);
    ended(guard).await.code()
}

#[tokio::test]
async fn stream_that_is_resumed_without_a_gap_costs_no_calls() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let mut guard = pair.client.guard_connection(&principal(&pair.client, "a").await).unwrap();
    assert!(continues(&mut guard).await);
    let asked = pair.fake.asked();
    pair.fake.drop_streams();
    pair.fake.watched(2).await;
    pair.heartbeat(2).await;
    assert!(continues(&mut guard).await);
    assert_eq!(pair.fake.asked(), asked);
}

#[tokio::test]
async fn unreachable_service_is_tolerated_for_a_while() {
    let tolerance = Duration::from_millis(200);
    let mut pair = Pair::with(|builder| builder.without_near_cache().guard_tolerance(tolerance)).await;
    pair.fake.answer("a", valid("a"));
    let principal = principal(&pair.client, "a").await;
    pair.fake.kill().await;
    let guard = pair.client.guard_connection(&principal).unwrap();
    assert!(matches!(ended(guard).await, Ended::Undecided(_)));
}

#[tokio::test]
async fn restart_of_the_stream_ends_no_stream_of_a_valid_key_however_many_there_are() {
    let pair = Pair::watched().await;
    let mut guards = stream::FuturesUnordered::new();
    for number in 0..1_000 {
        let key = number.to_string();
        pair.fake.answer(&key, valid(&key));
        guards.push(pair.client.guard_connection(&principal(&pair.client, &key).await).unwrap());
        pair.fake.answer(&key, at(2, valid(&key)));
    }
    let asked = pair.fake.asked();
    pair.fake.start_over(2);
    while pair.fake.asked() < asked + 1_000 {
        assert!(timeout(Duration::from_millis(50), guards.next()).await.is_err(), "a stream has ended");
    }
    assert!(timeout(Duration::from_millis(50), guards.next()).await.is_err(), "a stream has ended");
    assert_eq!(pair.client.guard_count(), 1_000);
}

#[tokio::test]
async fn idle_guards_cost_no_calls_and_leave_nothing_behind() {
    let pair = Pair::watched().await;
    pair.fake.answer("a", valid("a"));
    let principal = principal(&pair.client, "a").await;
    let mut guards: stream::FuturesUnordered<_> =
        (0..10_000).map(|_| pair.client.guard_connection(&principal).unwrap()).collect();
    assert_eq!(pair.client.guard_count(), 10_000);
    let asked = pair.fake.asked();
    for revision in 2..5 {
        pair.heartbeat(revision).await;
        assert!(timeout(Duration::from_millis(20), guards.next()).await.is_err());
    }
    assert_eq!(pair.fake.asked(), asked);

    // A change costs one call for all.
    pair.fake.answer("a", at(5, denied(v1::Verdict::Revoked, valid("a"))));
    pair.fake.invalidate(5, Key, "key_a");
    let ends: Vec<_> = timeout(SECOND * 60, guards.by_ref().take(9_000).collect()).await.unwrap();
    assert!(ends.iter().all(|end: &Ended| end.code() == "REVOKED"));
    assert_eq!(pair.fake.asked(), asked + 1);
    drop(guards);
    assert_eq!(pair.client.guard_count(), 0);
}
