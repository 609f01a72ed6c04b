//! Recording and querying usage.

use tenant_auth_client::{Error, RecorderSettings, UsageRecorder, proto};

use crate::harness::{Service, WAIT_TIMEOUT, usage_sum};

#[tokio::test]
async fn usage_is_counted_once_and_summed() {
    let service = Service::start().await;
    service.key().await;
    let event = |tenant: &str, metric: &str, quantity| proto::UsageEvent {
        tenant_id: tenant.to_owned(),
        metric: metric.to_owned(),
        quantity,
        occurred_at: None,
    };
    let events = vec![event("acme", "calls", 2), event("nobody", "calls", 1), event("acme", "tokens", 3)];
    for already in [false, true] {
        let recorded = service.client.record_usage("r-1", events.clone()).await.unwrap();
        assert_eq!((recorded.accepted, recorded.already_recorded), (2, already));
        assert!(matches!(recorded.rejected[..], [(1, Error::NotFound { .. })]), "{recorded:?}");
    }
    let other = service.client.record_usage("r-1", vec![event("acme", "calls", 9)]).await;
    assert!(matches!(other, Err(Error::AlreadyExists { .. })), "{other:?}");

    // Two metrics, so two pages.
    assert_eq!(usage_sum(&service.client, "acme").await, Ok(5));
    let missing = usage_sum(&service.client, "nobody").await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn recorded_usage_is_counted() {
    let service = Service::start().await;
    service.key().await;
    let recorder = UsageRecorder::start(service.client.clone(), RecorderSettings::new()).unwrap();
    for _ in 0..1_200 {
        recorder.record("acme", "calls", 1).unwrap();
    }
    recorder.flush().await.unwrap();
    assert_eq!(usage_sum(&service.client, "acme").await, Ok(1_200));
    recorder.record("acme", "calls", 1).unwrap();
    assert_eq!(recorder.close(WAIT_TIMEOUT).await, []);
    assert_eq!(usage_sum(&service.client, "acme").await, Ok(1_201));
}
