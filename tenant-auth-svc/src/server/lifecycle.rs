//! The running service and its shutdown: report not ready, wait for load balancers, drain in-flight requests.

mod explicit;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic_health::server::HealthReporter;

use super::{StartError, database_startup, http_server::HttpServer, reload::FileReloader};
use crate::{
    domain::{
        admin::Admin,
        clock::{Moment, SharedClock},
        store::StoreError,
        validate::Validator,
    },
    instruments::lag::SchedulerLag,
    jobs::{
        audit_copy::AuditCopy,
        heartbeat::Heartbeat,
        limits::LimitJobs,
        maintenance::MaintenanceJobs,
        readiness::{Readiness, ReadinessState},
        usage::UsageJobs,
    },
    ops::status::FileStatus,
    service_types::{AllCaches, ChangeFeed, KeyRecordCache, ServiceStore},
    telemetry::otlp::RunningExporter,
    transport::Server,
    usage_batcher::BatcherTask,
};

/// How long in-flight requests may take once no new ones are accepted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long queued usage events may take to be committed at shutdown: two attempts.
const USAGE_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to give the leases of limits back.
const LEASE_RETURN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last-used times and the last entries of the audit log copy may delay the shutdown.
const FINAL_WRITES_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the export of the last spans and metrics may delay the shutdown.
const TELEMETRY_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running service. It serves until it is stopped or dropped.
#[derive(Debug)]
pub struct RunningService {
    pub(super) address: SocketAddr,
    pub(super) ops_address: Option<SocketAddr>,
    /// `None` without an address for front doors over HTTP.
    pub(super) forward_server: Option<HttpServer>,
    /// `None` without an address for the console.
    pub(super) console_server: Option<HttpServer>,
    pub(super) clock: SharedClock,
    pub(super) admin: Arc<Admin<ServiceStore, AllCaches>>,
    pub(super) validator: Arc<Validator<KeyRecordCache>>,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) scheduler_lag: Arc<SchedulerLag>,
    pub(super) maintenance: MaintenanceJobs,
    pub(super) limit_jobs: LimitJobs,
    pub(super) usage_jobs: UsageJobs,
    pub(super) health: HealthReporter,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) drain_delay: Duration,
    /// When the stop began.
    pub(super) stopping_since: Arc<OnceLock<Moment>>,
    pub(super) file_reloader: FileReloader,
    pub(super) reload_task: JoinHandle<()>,
    /// The ops server runs while this exists: until the end of the drain.
    pub(super) _ops_guard: oneshot::Sender<Infallible>,
    /// `None` without an OTLP endpoint.
    pub(super) otlp_exporter: Option<RunningExporter>,
    pub(super) server: Server,
    pub(super) startup_task: JoinHandle<()>,
    pub(super) feed_task: JoinHandle<()>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) heartbeat_task: Option<JoinHandle<()>>,
    /// `None` if the audit log is not copied.
    pub(super) audit_copy: Option<AuditCopy>,
    pub(super) audit_copy_task: Option<JoinHandle<()>>,
}

impl RunningService {
    /// The gRPC address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ops address, if health and metrics are served.
    #[must_use]
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// The address of the front doors over HTTP, if they have one.
    #[must_use]
    pub fn forward_address(&self) -> Option<SocketAddr> {
        self.forward_server.as_ref().map(|server| server.address)
    }

    /// The address of the console, if it has one.
    #[must_use]
    pub fn console_address(&self) -> Option<SocketAddr> {
        self.console_server.as_ref().map(|server| server.address)
    }

    /// The administration use cases, for code in the same process.
    #[must_use]
    pub fn admin(&self) -> &Admin<ServiceStore, AllCaches> {
        &self.admin
    }

    /// The validation use cases, for code in the same process.
    #[must_use]
    pub fn validator(&self) -> &Validator<KeyRecordCache> {
        &self.validator
    }

    /// Returns a function that reloads certificates and callers if they have changed, in addition to the periodic
    /// check. A file that is refused leaves the previous content in effect, and is reported in the result. The
    /// function reads files, so it may block.
    pub fn reloader(&self) -> impl Fn() -> FileStatus + Clone + Send + use<> {
        let files = self.file_reloader.clone();
        move || {
            files.reload_changed();
            files.file_status()
        }
    }

    /// Removes entries from the cache that are too old for any use, as the periodic sweep does.
    pub fn sweep_cache(&self) {
        self.maintenance.key_cache.sweep();
    }

    /// The number of open connections of each worker.
    #[must_use]
    pub fn connections_per_worker(&self) -> Vec<usize> {
        self.server.connections().open_per_worker().collect()
    }

    /// Starts to measure the scheduler lag of this process, so that reads which time out because of it are not
    /// attributed to the database. Not started by default: where many services share a machine, as in tests, each
    /// would attribute the lag that another one causes.
    pub fn measure_scheduler_lag(&self) {
        self.scheduler_lag.start();
    }

    /// The scheduler lag of this process, once it is measured.
    #[must_use]
    pub fn scheduler_lag(&self) -> &SchedulerLag {
        &self.scheduler_lag
    }

    /// The change feed, to poll it explicitly.
    #[must_use]
    pub fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// Writes the heartbeat if it is due; does nothing if heartbeats are off.
    ///
    /// # Errors
    /// When the database does not respond.
    pub async fn beat_if_due(&self) -> Result<(), StoreError> {
        match &self.heartbeat {
            Some(heartbeat) => heartbeat.beat_if_due().await,
            None => Ok(()),
        }
    }

    /// The cache of keys.
    #[must_use]
    pub fn key_cache(&self) -> &KeyRecordCache {
        &self.maintenance.key_cache
    }

    /// Waits until the recently used keys are preloaded.
    pub async fn wait_until_preloaded(&mut self) {
        self.maintenance.wait_until_preloaded().await;
    }

    /// Flushes last-used times and sliding expiries explicitly.
    ///
    /// # Errors
    /// When the database does not respond; what was not written is written the next time.
    pub async fn flush_pending_writes(&self) -> Result<(), StoreError> {
        self.maintenance.flush_pending_writes().await
    }

    /// The task that commits queued usage.
    #[must_use]
    pub fn usage_batcher_task(&self) -> &BatcherTask {
        &self.usage_jobs.batcher_task
    }

    /// Waits until the database was reached and its schema is valid.
    ///
    /// # Errors
    /// [`StartError::Schema`] when the database is unusable.
    pub async fn wait_until_ready(&mut self) -> Result<(), StartError> {
        let readiness =
            self.readiness.wait_for(|readiness| !matches!(readiness.state, ReadinessState::Waiting)).await;
        match readiness.as_deref().map(|readiness| &readiness.state) {
            Ok(ReadinessState::Unusable(error)) => Err(StartError::Schema(Arc::clone(error))),
            Ok(ReadinessState::Waiting | ReadinessState::Ready) => Ok(()),
            Err(_) => Err(StartError::Server("the startup task ended".to_owned())),
        }
    }

    /// Returns a future that completes when the service is ready; never, if it never becomes ready.
    pub fn until_ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut readiness = self.readiness.clone();
        async move {
            if readiness.wait_for(|now| matches!(now.state, ReadinessState::Ready)).await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.readiness.borrow().state, ReadinessState::Ready)
    }

    /// Waits until the service has to stop by itself, and returns the reason.
    pub async fn wait_for_failure(&mut self) -> StartError {
        let unusable = async {
            let unusable =
                self.readiness.wait_for(|now| matches!(now.state, ReadinessState::Unusable(_))).await;
            match unusable.as_deref().map(|now| &now.state) {
                Ok(ReadinessState::Unusable(error)) => StartError::Schema(Arc::clone(error)),
                // The startup task ends once the service is ready: from then on only the server can fail.
                Ok(ReadinessState::Waiting | ReadinessState::Ready) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = unusable => error,
            () = self.server.wait_until_drained() => StartError::Server("the worker threads ended".to_owned()),
        }
    }

    /// Reports not ready and continues to serve for the drain delay; then accepts nothing new, and waits for
    /// in-flight requests for at most 10 s.
    pub async fn stop(self) {
        self.stop_with_delay_cutoff(std::future::pending()).await;
    }

    /// Like [`stop`](Self::stop), but `second_signal` ends the drain delay early.
    pub async fn stop_with_delay_cutoff(mut self, second_signal: impl Future<Output = ()>) {
        // First: the startup task could still set SERVING after everything else has been set to NOT_SERVING.
        self.startup_task.abort();
        // Its only possible error is the cancellation.
        let _ = (&mut self.startup_task).await;
        // Never set before: `self` is consumed.
        let _ = self.stopping_since.set(Moment::now(&self.clock));
        database_startup::set_all_not_serving(&self.health).await;

        // A service that never was ready, or has failed, receives no requests: there is no need to wait.
        if self.is_ready() {
            tokio::select! {
                () = tokio::time::sleep(self.drain_delay) => {}
                () = second_signal => {}
            }
        }

        let http_servers = [self.forward_server.take(), self.console_server.take()];
        let http_ended = http_servers.map(|server| server.map(|server| tokio::spawn(server.stop())));
        self.server.drain();
        // A watch stream, or a watched health name, is a request that never ends by itself.
        self.feed.hub().close();
        database_startup::end_health_watches(&mut self.health).await;
        if tokio::time::timeout(DRAIN_TIMEOUT, self.server.wait_until_drained()).await.is_err() {
            let seconds = DRAIN_TIMEOUT.as_secs();
            tracing::warn!(seconds, "requests still in flight after the drain timeout were cancelled");
        }
        for ended in http_ended.into_iter().flatten() {
            // It has a timeout of its own, and its only possible error is a panic, which the panic hook has logged.
            let _ = ended.await;
        }
        // These belong to requests whose callers have disconnected: a caller that repeats its request finds them
        // recorded.
        let left = self.usage_jobs.batcher_task.drain(USAGE_FLUSH_TIMEOUT).await;
        if left > 0 {
            tracing::warn!(
                events = left,
                "usage events were not committed before shutdown; none of them was acknowledged"
            );
        }
        // Tokens that are not given back stay counted.
        self.limit_jobs.drain(LEASE_RETURN_TIMEOUT).await;
        // Without a response last-used times are lost: the next use of each key is recorded again. Audit entries that
        // are not copied now are copied after the next start.
        if let Some(task) = &self.audit_copy_task {
            task.abort();
        }
        let final_copy = async {
            if let Some(copy) = &self.audit_copy {
                copy.finish().await
            }
        };
        let final_writes = futures::future::join(self.flush_pending_writes(), final_copy);
        let _ = tokio::time::timeout(FINAL_WRITES_TIMEOUT, final_writes).await;
        if let Some(exporter) = self.otlp_exporter.take() {
            exporter.shutdown(TELEMETRY_FLUSH_TIMEOUT).await;
        }
    }
}

impl Drop for RunningService {
    fn drop(&mut self) {
        self.startup_task.abort();
        self.feed_task.abort();
        self.reload_task.abort();
        for task in self.heartbeat_task.iter().chain(&self.audit_copy_task) {
            task.abort();
        }
    }
}
