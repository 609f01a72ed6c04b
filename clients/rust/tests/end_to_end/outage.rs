//! A service that stops and starts again.

use std::{sync::Arc, time::Duration};

use tenant_auth_client::{
    Client, Clock, DatabaseKind, Error, PresentedKey, RecorderSettings, Source, UsageRecorder, Verdict,
};

use crate::harness::{Service, WAIT_TIMEOUT, until, usage_sum};

/// A clock that does not advance, so that no answer expires on a slow machine.
#[derive(Debug)]
struct FrozenClock;

impl Clock for FrozenClock {
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test]
async fn stopped_service_is_unreachable() {
    let service = Service::start().await;
    let info = service.client.server_info().await.unwrap();
    assert_eq!(info.database, DatabaseKind::Embedded);
    service.running.stop().await;
    let stopped = service.client.server_info().await.unwrap_err();
    assert!(matches!(stopped, Error::Unreachable { .. }), "{stopped:?}");
}

#[tokio::test]
async fn cached_answers_and_usage_survive_an_outage() {
    let service = Service::start().await;
    let (key, unknown_key) = (service.key().await, PresentedKey::new("some-strange-key"));
    let client = Client::builder(service.endpoint()).clock(Arc::new(FrozenClock));
    let client = client.timeout(WAIT_TIMEOUT).connect_lazy().unwrap();
    let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new()).unwrap();
    assert!(client.validate(&key, &[]).await.unwrap().is_valid());
    recorder.record("acme", "calls", 1).unwrap();
    recorder.flush().await.unwrap();

    let stopped = service.stop().await;
    let cached = client.validate(&key, &["orders:read"]).await.unwrap();
    assert_eq!((cached.verdict, cached.provenance.source), (Verdict::Valid, Source::Near));
    let unknown = client.validate(&unknown_key, &[]).await.unwrap_err();
    assert!(matches!(unknown, Error::Unreachable { .. }) && unknown.is_transient(), "{unknown:?}");
    recorder.record("acme", "calls", 2).unwrap();

    let service = stopped.start().await;
    recorder.flush().await.unwrap();
    assert_eq!(usage_sum(&service.client, "acme").await, Ok(3));
    // The client reconnects to the service.
    let is_back = async || {
        client.validate(&unknown_key, &[]).await.is_ok_and(|answer| answer.verdict == Verdict::Unknown)
    };
    until(is_back).await;
    until(async || client.watch_state().is_some_and(|state| state.live)).await;
}
