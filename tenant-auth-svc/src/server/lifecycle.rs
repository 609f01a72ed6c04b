//! The service while it runs, and how it ends: say so, let load balancers notice, let requests under way end.

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

use super::{
    AllCaches, ChangeFeed, KeyRecordCache, ServiceStore, StartError,
    readiness::{self, Readiness, ReadinessState},
    reload::FileReloader,
};
use crate::{
    domain::{
        admin::Admin,
        clock::{Moment, SharedClock},
        store::StoreError,
        validate::Validator,
    },
    instruments::lag::SchedulerLag,
    jobs::{
        audit_copy::{AuditCopy, AuditCopyError},
        heartbeat::Heartbeat,
        maintenance::MaintenanceJobs,
        usage::UsageJobs,
    },
    ops::status::FileStatus,
    telemetry::otlp::RunningExporter,
    transport::Server,
    usage_batcher::BatcherTask,
};

/// How long requests that are under way may take once no new ones are accepted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long usage that waits may take to be committed: two attempts.
const USAGE_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long writing down the last uses, or copying the last entries of the audit log, may hold up the end.
const FINAL_WRITES_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last spans and metrics may.
const TELEMETRY_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running service. It serves until it is told to stop, or dropped.
#[derive(Debug)]
pub struct RunningService {
    pub(super) address: SocketAddr,
    pub(super) ops_address: Option<SocketAddr>,
    pub(super) clock: SharedClock,
    pub(super) admin: Arc<Admin<ServiceStore, AllCaches>>,
    pub(super) validator: Arc<Validator<KeyRecordCache>>,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) scheduler_lag: Arc<SchedulerLag>,
    pub(super) maintenance: MaintenanceJobs,
    pub(super) usage_jobs: UsageJobs,
    pub(super) health: HealthReporter,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) drain_delay: Duration,
    /// When it was told to stop.
    pub(super) stopping_since: Arc<OnceLock<Moment>>,
    pub(super) file_reloader: FileReloader,
    pub(super) reload_task: JoinHandle<()>,
    /// Health is served over HTTP for as long as this exists: to the end of the drain.
    pub(super) _ops_guard: oneshot::Sender<Infallible>,
    /// Nothing is sent where no collector is named.
    pub(super) otlp_exporter: Option<RunningExporter>,
    pub(super) server: Server,
    pub(super) startup_task: JoinHandle<()>,
    pub(super) feed_task: JoinHandle<()>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) heartbeat_task: Option<JoinHandle<()>>,
    /// `None` where the audit log is copied nowhere.
    pub(super) audit_copy: Option<AuditCopy>,
    pub(super) audit_copy_task: Option<JoinHandle<()>>,
}

impl RunningService {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves health over HTTP, if it does.
    #[must_use]
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// The operator's use cases, for what runs in the same process.
    #[must_use]
    pub fn admin(&self) -> &Admin<ServiceStore, AllCaches> {
        &self.admin
    }

    /// The decisions, for what runs in the same process.
    #[must_use]
    pub fn validator(&self) -> &Validator<KeyRecordCache> {
        &self.validator
    }

    /// Has certificates and callers read anew, if they have changed: at a moment of one's own, besides every few
    /// seconds. What cannot be used leaves what was before it in force, and is told. It reads files, so it may block.
    pub fn reloader(&self) -> impl Fn() -> FileStatus + Clone + Send + use<> {
        let files = self.file_reloader.clone();
        move || {
            files.reload_changed();
            files.file_status()
        }
    }

    /// Has memory let go of what is too old for everything, as it does now and then.
    pub fn sweep_cache(&self) {
        self.maintenance.key_cache.sweep();
    }

    /// Connections of each worker at this moment.
    #[must_use]
    pub fn connections_per_worker(&self) -> Vec<usize> {
        self.server.connections().open_per_worker().collect()
    }

    /// Begins to measure how late this process is, so that reads which run out of time meanwhile are not held against the
    /// database. Not by itself: where many services share a machine, as in tests, each would excuse what another one does.
    pub fn measure_scheduler_lag(&self) {
        self.scheduler_lag.start();
    }

    /// How late this process is, once that is measured.
    #[must_use]
    pub fn scheduler_lag(&self) -> &SchedulerLag {
        &self.scheduler_lag
    }

    /// The change feed, to be read at a moment of one's own.
    #[must_use]
    pub fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// Gives a sign of life if one is due, at a moment of one's own; nothing where none is given.
    ///
    /// # Errors
    /// When the database gives no answer.
    pub async fn beat_if_due(&self) -> Result<(), StoreError> {
        match &self.heartbeat {
            Some(heartbeat) => heartbeat.beat_if_due().await,
            None => Ok(()),
        }
    }

    /// The memory of keys.
    #[must_use]
    pub fn key_cache(&self) -> &KeyRecordCache {
        &self.maintenance.key_cache
    }

    /// Waits until the keys in use were read ahead.
    pub async fn wait_until_preloaded(&mut self) {
        self.maintenance.wait_until_preloaded().await;
    }

    /// Writes down which keys and sliding sessions are in use, at a moment of one's own.
    ///
    /// # Errors
    /// When the database gives no answer; what was not written is written the next time.
    pub async fn flush_pending_writes(&self) -> Result<(), StoreError> {
        self.maintenance.flush_pending_writes().await
    }

    /// The usage that waits to be committed.
    #[must_use]
    pub fn usage_batcher_task(&self) -> &BatcherTask {
        &self.usage_jobs.batcher_task
    }

    /// Forgets old usage requests and events, at a moment of one's own.
    ///
    /// # Errors
    /// When the database gives no answer; what was not forgotten goes the next time.
    pub async fn sweep_usage(&self) -> Result<(), StoreError> {
        self.usage_jobs.sweep().await
    }

    /// Compares all totals of usage with their events, at a moment of one's own.
    ///
    /// # Errors
    /// When the database gives no answer.
    pub async fn reconcile_usage(&self) -> Result<(), StoreError> {
        self.usage_jobs.reconcile().await
    }

    /// Copies what is new in the audit log to its file, at a moment of one's own; nothing where no file was given.
    ///
    /// # Errors
    /// When the database gives no answer, or the disk does not take it; what is missing is written the next time.
    pub async fn copy_audit_log(&self) -> Result<(), AuditCopyError> {
        match &self.audit_copy {
            Some(copy) => copy.copy_new_entries().await,
            None => Ok(()),
        }
    }

    /// Deletes sessions that have been over for a while, at a moment of one's own. How many.
    ///
    /// # Errors
    /// When the database gives no answer.
    pub async fn sweep_sessions(&self) -> Result<u64, StoreError> {
        self.maintenance.sweep_sessions().await
    }

    /// Waits until the database was reached and its schema found right.
    ///
    /// # Errors
    /// [`StartError::Schema`] when it cannot be used as it is.
    pub async fn wait_until_ready(&mut self) -> Result<(), StartError> {
        let readiness = self.readiness.wait_for(|now| !matches!(now.state, ReadinessState::Waiting)).await;
        match readiness.as_deref().map(|now| &now.state) {
            Ok(ReadinessState::Unusable(error)) => Err(StartError::Schema(Arc::clone(error))),
            Ok(ReadinessState::Waiting | ReadinessState::Ready) => Ok(()),
            Err(_) => Err(StartError::Server("the preparation ended".to_owned())),
        }
    }

    /// Waits until it is ready, beside everything else; for good, if it never is.
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

    /// Waits until the service has to stop by itself, and says why.
    pub async fn wait_for_failure(&mut self) -> StartError {
        let unusable = async {
            let unusable =
                self.readiness.wait_for(|now| matches!(now.state, ReadinessState::Unusable(_))).await;
            match unusable.as_deref().map(|now| &now.state) {
                Ok(ReadinessState::Unusable(error)) => StartError::Schema(Arc::clone(error)),
                // The preparation is over once the service is ready: then only the server can fail.
                Ok(ReadinessState::Waiting | ReadinessState::Ready) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = unusable => error,
            () = self.server.wait_until_drained() => StartError::Server("the threads that serve connections ended".to_owned()),
        }
    }

    /// Says that it is not ready and goes on serving for the drain delay; then takes nothing new, and lets requests
    /// that are under way end, for 10 s at most.
    pub async fn stop(self) {
        self.stop_with_delay_cutoff(std::future::pending()).await;
    }

    /// Like [`stop`](Self::stop), but the drain delay ends with `again`, if that comes first.
    pub async fn stop_with_delay_cutoff(mut self, again: impl Future<Output = ()>) {
        // First of all: it could say SERVING once more after everything else has said that it is not.
        self.startup_task.abort();
        // That it was aborted is no news.
        let _ = (&mut self.startup_task).await;
        // Told to stop only once: it is consumed.
        let _ = self.stopping_since.set(Moment::now(&self.clock));
        readiness::set_all_not_serving(&self.health).await;

        // Nobody sends requests to what was never ready, or has ended by itself: nobody has to notice anything.
        if self.is_ready() {
            tokio::select! {
                () = tokio::time::sleep(self.drain_delay) => {}
                () = again => {}
            }
        }

        self.server.drain();
        // A subscription, or a watched health name, is a request that never ends.
        self.feed.hub().close();
        readiness::end_health_watches(&mut self.health).await;
        if tokio::time::timeout(DRAIN_TIMEOUT, self.server.wait_until_drained()).await.is_err() {
            tracing::warn!("requests were still under way after {DRAIN_TIMEOUT:?} and were cut off");
        }
        // Of requests that nobody waits for any more: a caller that asks again finds them done.
        let left = self.usage_jobs.batcher_task.drain(USAGE_FLUSH_TIMEOUT).await;
        if left > 0 {
            tracing::warn!(events = left, "usage could not be committed; none of it was acknowledged");
        }
        // Without an answer uses are lost: the next use of each key is noted again. What is not copied is copied after the next
        // start.
        if let Some(copying) = &self.audit_copy_task {
            copying.abort();
        }
        let copied = async {
            if let Some(copy) = &self.audit_copy {
                copy.finish().await
            }
        };
        let last = futures::future::join(self.flush_pending_writes(), copied);
        let _ = tokio::time::timeout(FINAL_WRITES_TIMEOUT, last).await;
        if let Some(sending) = self.otlp_exporter.take() {
            sending.shutdown(TELEMETRY_FLUSH_TIMEOUT).await;
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
