//! Reservations: costs that are known afterwards.

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;
use tonic::Code;

use crate::harness::{
    NOW, TestDatabase, TestService, error_reason,
    limits::{
        cost, count_admitted, key_credential, limit_client, limit_of, limit_state, per_day, service_with_key,
        store_limit,
    },
};

fn reservation(key: &str, id: &str, amount: i64) -> v1::ReserveRequest {
    v1::ReserveRequest {
        credential: key_credential(key),
        costs: vec![cost("requests", amount)],
        reservation_id: id.to_owned(),
        ..Default::default()
    }
}

fn settlement(id: &str, amount: i64) -> v1::SettleRequest {
    let actual = vec![v1::SettledCost { metric: "requests".to_owned(), amount }];
    v1::SettleRequest { reservation_id: id.to_owned(), actual }
}

#[tokio::test]
async fn reservation_is_settled_with_the_actual_amount() {
    for database in TestDatabase::all().await {
        let (service, tenant, key, _) = service_with_key(&database).await;
        store_limit(&service, limit_of(&tenant, "requests.daily", per_day(100))).await;
        let mut client = limit_client(&service);
        let reserved = client.reserve(reservation(&key, "r-1", 60)).await.unwrap().into_inner();
        assert_eq!(
            (reserved.verdict(), reserved.already_reserved),
            (v1::Verdict::Valid, false),
            "{}",
            database.name()
        );
        assert_eq!(reserved.expires_in.unwrap().seconds, 600);
        let again = client.reserve(reservation(&key, "r-1", 60)).await.unwrap().into_inner();
        assert!(again.already_reserved);
        let error = client.reserve(reservation(&key, "r-1", 61)).await.unwrap_err();
        assert_eq!((error.code(), error_reason(&error).as_str()), (Code::AlreadyExists, "ID_REUSED"));
        let denied = client.reserve(reservation(&key, "r-2", 60)).await.unwrap().into_inner();
        assert_eq!((denied.verdict(), denied.expires_in), (v1::Verdict::QuotaExceeded, None));

        let settled = client.settle(settlement("r-1", 15)).await.unwrap().into_inner();
        assert_eq!((settled.state(), settled.already_settled), (v1::ReservationState::Settled, false));
        let limit = &settled.limits[0];
        assert_eq!((limit.reserved, limit.charged, limit.exceeded_by), (60, 15, 0));
        let again = client.settle(settlement("r-1", 40)).await.unwrap().into_inner();
        assert!(again.already_settled);
        assert_eq!(again.limits, settled.limits, "the first call decides");
        let error = client.cancel(v1::CancelRequest { reservation_id: "r-1".to_owned() }).await.unwrap_err();
        assert_eq!(
            (error.code(), error_reason(&error).as_str()),
            (Code::FailedPrecondition, "RESERVATION_SETTLED")
        );
        // Once the replica has reported what it set aside.
        let reported = async {
            loop {
                let [state] = limit_state(&service, &tenant).await.try_into().unwrap();
                if (state.used, state.reserved) == (15, 0) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reported).await.unwrap();
    }
}

#[tokio::test]
async fn settlement_beyond_the_reservation_takes_what_is_left() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(100))).await;
    let mut client = limit_client(&service);
    client.reserve(reservation(&key, "a", 60)).await.unwrap();
    client.reserve(reservation(&key, "b", 10)).await.unwrap();
    let settled = client.settle(settlement("a", 500)).await.unwrap().into_inner();
    let limit = &settled.limits[0];
    assert_eq!(limit.charged + limit.exceeded_by, 500, "{limit:?}");
    assert!(limit.charged <= 90, "{limit:?}");
}

#[tokio::test]
async fn cancelled_and_expired_reservations_are_given_back() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(100))).await;
    let mut client = limit_client(&service);
    client.reserve(reservation(&key, "cancelled", 30)).await.unwrap();
    let expires_in = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    client.reserve(v1::ReserveRequest { expires_in, ..reservation(&key, "released", 30) }).await.unwrap();
    let charge = v1::ReservationExpiry::Charge.into();
    let charged = v1::ReserveRequest { expires_in, on_expiry: charge, ..reservation(&key, "charged", 40) };
    client.reserve(charged).await.unwrap();
    for _ in 0..2 {
        let cancelled =
            client.cancel(v1::CancelRequest { reservation_id: "cancelled".to_owned() }).await.unwrap();
        assert_eq!(cancelled.into_inner().state(), v1::ReservationState::Cancelled);
    }
    clock.advance(Duration::from_secs(6));
    service.running.sweep_limits().await.unwrap();
    let [state] = limit_state(&service, &tenant).await.try_into().unwrap();
    assert_eq!((state.reserved, state.used + state.leased), (0, 40), "{state:?}");
    let settled = client.settle(settlement("charged", 25)).await.unwrap().into_inner();
    assert_eq!((settled.limits[0].charged, settled.state()), (25, v1::ReservationState::Settled));
    let late = client.settle(settlement("released", 5)).await.unwrap().into_inner();
    assert_eq!((late.limits[0].charged, late.limits[0].exceeded_by), (5, 0));
    assert_eq!(count_admitted(&service, &key, 100).await, 70);
}
