//! Secrets never appear in the log of the client and its libraries.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Request;
use tenant_auth_client::{AuthenticateLayer, BindSession, CallerToken, Client};
use tower::{Layer as _, ServiceExt as _};
use tracing::level_filters::LevelFilter;

use crate::harness::Service;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All tasks of this test run on its thread, whose subscriber captures the log.
#[tokio::test]
async fn logs_show_no_key_or_token_at_any_level() {
    let service = Service::start().await;
    let key = service.key().await;
    let (log, token) = (Log::default(), "canary-of-a-token");
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let subscriber_guard = tracing::subscriber::set_default(subscriber);

    let client = Client::builder(service.endpoint()).caller_token(CallerToken::fixed(token));
    let client = client.connect_lazy().unwrap();
    assert!(client.validate(&key, &["orders:read"]).await.unwrap().is_valid());
    let session = BindSession::new("s", Duration::from_secs(60));
    assert!(client.bind_session(session, &key).await.unwrap().verdict.is_valid());
    assert!(client.validate_session("s", Some(&key), &[]).await.unwrap().is_valid());
    service.stop().await;
    let inner =
        tower::service_fn(async |_: Request<()>| Ok::<_, io::Error>(http::Response::new(String::new())));
    let layered = AuthenticateLayer::new(client).layer(inner);
    let header = format!("Bearer {}x", key.expose());
    let request = Request::builder().header("authorization", header).body(()).unwrap();
    assert_eq!(layered.oneshot(request).await.unwrap().status(), 503);
    drop(subscriber_guard);

    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("key could not be validated"), "{log}");
    for secret in [key.expose(), token] {
        assert!(!log.contains(secret), "{log}");
    }
}
