//! A fake service, a client of it, and a clock that the test moves.

pub(crate) mod guards;
pub(crate) mod limits;
pub(crate) mod server;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tenant_auth_client::{Client, ClientBuilder, Clock, PresentedKey, Validation};

use self::server::FakeServer;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// A pause without heartbeats that does not break the stream.
pub(crate) const TOLERATED_SILENCE: Duration = Duration::from_millis(2_900);

/// A clock that only advances when the test moves it.
#[derive(Debug)]
pub(crate) struct ManualClock {
    passed: Mutex<Duration>,
}

impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { passed: Mutex::default() })
    }

    pub(crate) fn advance(&self, time: Duration) {
        *self.passed.lock().unwrap() += time;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.passed.lock().unwrap()
    }
}

/// A fake service and a client of it, which use a manual clock.
pub(crate) struct Pair {
    pub(crate) fake: FakeServer,
    pub(crate) client: Client,
    pub(crate) clock: Arc<ManualClock>,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let (fake, clock) = (FakeServer::start().await, ManualClock::new());
        // Generous for a busy machine; no test waits for it.
        let builder = Client::builder(fake.endpoint()).timeout(SECOND * 60).clock(clock.clone());
        let client = settings(builder).connect_lazy().unwrap();
        Self { fake, client, clock }
    }

    /// Returns a pair whose invalidation stream has announced revision 1.
    pub(crate) async fn watched() -> Self {
        let pair = Self::start().await;
        pair.fake.watched(1).await;
        pair.heartbeat(1).await;
        // Later requests are sent after the stream started.
        pair.clock.advance(Duration::from_nanos(1));
        pair
    }

    /// Sends a heartbeat and waits until the client has received it.
    pub(crate) async fn heartbeat(&self, revision: i64) {
        self.fake.heartbeat(revision);
        self.wait_until_revision(revision).await;
    }

    /// Waits until the stream of the client has announced a revision.
    pub(crate) async fn wait_until_revision(&self, revision: i64) {
        until(|| self.client.watch_state().is_some_and(|state| state.live && state.revision == revision))
            .await;
    }

    pub(crate) async fn validate(&self, key: &str, scopes: &[&str]) -> Validation {
        self.client.validate(&PresentedKey::new(key), scopes).await.unwrap()
    }
}

/// Waits for a condition, with a timeout for a busy machine.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 60, waiting).await.unwrap();
}

/// As `until`, for an asynchronous condition.
pub(crate) async fn until_async(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 60, waiting).await.unwrap();
}
