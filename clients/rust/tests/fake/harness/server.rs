//! A fake service that the test controls.

mod limits;
mod serving;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tenant_auth_client::proto::{self as v1, watch_response::Event};
use tenant_auth_proto::v1::{
    limit_service_server::LimitServiceServer, session_service_server::SessionServiceServer,
    usage_service_server::UsageServiceServer, validation_service_server::ValidationServiceServer,
    watch_service_server::WatchServiceServer,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Status,
    transport::{Server, ServerTlsConfig},
};

use self::limits::FakeLimits;
use super::until;

/// A running fake service; it stops on drop.
pub(crate) struct FakeServer {
    state: Arc<State>,
    address: SocketAddr,
    /// Its own runtime, so that its connections end with it.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    keys: Mutex<HashMap<String, v1::ValidateKeyResponse>>,
    sessions: Mutex<HashMap<String, v1::ValidateSessionResponse>>,
    /// Returned instead of the next answers.
    failures: Mutex<VecDeque<Status>>,
    /// Number of requests that arrived.
    asked: AtomicU32,
    /// Number of them that validate sessions.
    sessions_asked: AtomicU32,
    /// The usage events that arrived.
    usage: Mutex<Vec<v1::UsageEvent>>,
    /// Whether answers are held back.
    held: AtomicBool,
    /// The `authorization` of the last request.
    authorization: Mutex<Option<String>>,
    /// Events that are replayed to a resumed stream.
    log: Mutex<Vec<v1::WatchResponse>>,
    watchers: Mutex<Vec<mpsc::UnboundedSender<Result<v1::WatchResponse, Status>>>>,
    /// The revisions from which streams were resumed.
    resumed: Mutex<Vec<i64>>,
    unserved: AtomicBool,
    limits: FakeLimits,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    pub(crate) async fn with_tls(tls: ServerTlsConfig) -> Self {
        Self::serve(Some(tls)).await
    }

    async fn serve(tls: Option<ServerTlsConfig>) -> Self {
        let state = Arc::new(State::default());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = runtime.spawn(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = bound.await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let serving = server
            .add_service(ValidationServiceServer::from_arc(state.clone()))
            .add_service(SessionServiceServer::from_arc(state.clone()))
            .add_service(LimitServiceServer::from_arc(state.clone()))
            .add_service(UsageServiceServer::from_arc(state.clone()))
            .add_service(WatchServiceServer::from_arc(state.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { serving.await.unwrap() });
        Self { state, address, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the service and its connections.
    pub(crate) async fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        // The server and each connection hold a reference.
        until(|| Arc::strong_count(&self.state) == 1).await;
    }

    /// Returns how many requests have arrived.
    pub(crate) fn asked(&self) -> u32 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Returns how many requests to validate a session have arrived.
    pub(crate) fn sessions_asked(&self) -> u32 {
        self.state.sessions_asked.load(Ordering::SeqCst)
    }

    /// Returns the usage events that have arrived since the last call.
    pub(crate) fn take_usage(&self) -> Vec<v1::UsageEvent> {
        std::mem::take(&mut self.state.usage.lock().unwrap())
    }

    /// Returns whether a session is bound.
    pub(crate) fn is_bound(&self, session_id: &str) -> bool {
        self.state.sessions.lock().unwrap().contains_key(session_id)
    }

    /// Sets the answer for a key.
    pub(crate) fn answer(&self, key: &str, answer: v1::ValidateKeyResponse) {
        self.state.keys.lock().unwrap().insert(key.to_owned(), answer);
    }

    pub(crate) fn answer_session(&self, id: &str, answer: v1::ValidateSessionResponse) {
        self.state.sessions.lock().unwrap().insert(id.to_owned(), answer);
    }

    /// Queues an error that is returned instead of the next answer.
    pub(crate) fn fail(&self, status: Status) {
        self.state.failures.lock().unwrap().push_back(status);
    }

    /// Holds answers back, as they are when the request arrives, or releases them.
    pub(crate) fn hold(&self, held: bool) {
        self.state.held.store(held, Ordering::SeqCst);
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.state.authorization.lock().unwrap().clone()
    }

    /// Disables the invalidation stream.
    pub(crate) fn without_watch(&self) {
        self.state.unserved.store(true, Ordering::SeqCst);
    }

    /// Waits until the stream was opened `times` times.
    pub(crate) async fn watched(&self, times: usize) {
        until(|| self.resumed().len() >= times).await;
    }

    pub(crate) fn resumed(&self) -> Vec<i64> {
        self.state.resumed.lock().unwrap().clone()
    }

    /// Ends all streams.
    pub(crate) fn drop_streams(&self) {
        self.state.watchers.lock().unwrap().clear();
    }

    pub(crate) fn heartbeat(&self, revision: i64) {
        self.send_event(revision, Event::Heartbeat(v1::Heartbeat::default()));
    }

    /// Sends a heartbeat with the time of the service.
    pub(crate) fn heartbeat_at(&self, revision: i64, sent_at: SystemTime) {
        self.send_event(revision, Event::Heartbeat(v1::Heartbeat { sent_at: Some(sent_at.into()) }));
    }

    pub(crate) fn invalidate(&self, revision: i64, scope: v1::InvalidationScope, id: &str) {
        let change = v1::Invalidation { scope: scope.into(), id: id.to_owned(), tenant_id: String::new() };
        self.send_event(revision, Event::Invalidation(change));
    }

    pub(crate) fn start_over(&self, revision: i64) {
        self.send_event(revision, Event::StartOver(v1::StartOver::default()));
    }

    fn send_event(&self, revision: i64, event: Event) {
        let event = v1::WatchResponse { revision, event: Some(event) };
        self.state.log.lock().unwrap().push(event.clone());
        let mut watchers = self.state.watchers.lock().unwrap();
        watchers.retain(|watcher| watcher.send(Ok(event.clone())).is_ok());
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns a live key of the tenant `acme` with the id `key_<key>`, as of revision 1, cacheable for 5 s, or
/// for 60 s while watched.
pub(crate) fn valid(key: &str) -> v1::ValidateKeyResponse {
    v1::ValidateKeyResponse {
        verdict: v1::Verdict::Valid.into(),
        tenant_id: "acme".to_owned(),
        tenant_name: "Acme".to_owned(),
        plan: "pro".to_owned(),
        key_id: format!("key_{key}"),
        scopes: vec!["orders:read".to_owned()],
        provenance: Some(provenance(1)),
        ..Default::default()
    }
}

/// Returns a session of that tenant that was opened with `key_k`.
pub(crate) fn session() -> v1::ValidateSessionResponse {
    let key = valid("k");
    v1::ValidateSessionResponse {
        verdict: key.verdict,
        tenant_id: key.tenant_id,
        key_id: key.key_id,
        scopes: key.scopes,
        provenance: key.provenance,
        attributes: HashMap::from([("client".to_owned(), "desktop".to_owned())]),
        ..Default::default()
    }
}

pub(crate) fn provenance(revision: i64) -> v1::Provenance {
    v1::Provenance {
        source: v1::Source::Fresh.into(),
        age: Some(Duration::from_secs(2).try_into().unwrap()),
        revision,
        cacheable_for: Some(Duration::from_secs(5).try_into().unwrap()),
        cacheable_while_watched: Some(Duration::from_secs(60).try_into().unwrap()),
    }
}
