//! The composition root: the only place that names every concrete type, and where the orders are written down.

mod coverage;
mod database_client;
mod error;
pub mod expiry;
mod lifecycle;
#[cfg(test)]
mod memory_budget;
mod metrics_source;
mod middleware_stack;
pub(crate) mod readiness;
mod reload;
mod status_source;
mod upstream_health;

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::oneshot;
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    coverage::CoverageProbe,
    metrics_source::MetricsSources,
    middleware_stack::{Instrumentation, Services},
    readiness::DatabaseStartup,
    reload::FileReloader,
    status_source::StatusSources,
    upstream_health::{health_probe, replica_probe},
};
pub use self::{database_client::build_database_client, error::StartError, lifecycle::RunningService};
use crate::{
    build,
    cache::{
        CacheConfig, CacheContext, RecordCache,
        batch_lookup::BatchLookup,
        lookup::{KeyLookup, SessionLookup as SessionTable},
        oldest_answer::OldestAnswerAge,
    },
    change_feed::{
        hub::Hub,
        poller::{FeedLiveness, FeedPoller},
    },
    config::{DatabaseLocation, ServiceConfig},
    database::{
        client::{DatabaseClient, RetryingEngine, write_queue::WriteQueue},
        migrate::KNOWN_VERSION,
        sql::SqlStore,
    },
    domain::{
        admin::Admin,
        clock::{Moment, SharedClock},
        deny::ActiveDenyList,
        grace::Grace,
        guess_limiter::GuessLimiter,
        inspect::KeyInspector,
        last_used::LastUsedTracker,
        outage::OutageGrace,
        recovery::Recovery,
        session::SlidingExpiryTracker,
        sessions::Sessions,
        usage::UsageRecorder,
        validate::Validator,
    },
    grpc::{AdminRpc, InfoRpc, ServerInfo, SessionRpc, UsageRpc, ValidationRpc, WatchRpc},
    jobs::{
        audit_copy::AuditCopy,
        feed_poller,
        heartbeat::Heartbeat,
        maintenance::{MaintenanceJobs, PendingWrites},
        usage::UsageJobs,
    },
    middleware::metrics::RpcMetrics,
    ops,
    telemetry::{
        otlp::{OtlpCounts, OtlpExporter},
        prometheus,
    },
    usage_batcher::UsageBatcher,
};

/// The way to the database.
pub type ServiceDatabase = DatabaseClient;
/// What the use cases write to.
pub type ServiceStore = SqlStore<ServiceDatabase>;
/// What the use cases read from.
pub type KeyRecordCache = RecordCache<KeyLookup<ServiceStore>>;
/// … of sessions.
pub type SessionRecordCache = RecordCache<SessionTable<ServiceStore>>;
/// What has to hear of every change.
pub type AllCaches = (KeyRecordCache, SessionRecordCache);
/// What records and sums usage.
pub type ServiceUsageRecorder = UsageRecorder<UsageBatcher, ServiceStore>;
/// What an operator accepts the database through.
pub type RecoveryStore = SqlStore<WriteQueue<RetryingEngine>>;
/// How this replica learns what others have changed.
pub type ChangeFeed = FeedPoller<ServiceStore, AllCaches>;

/// How long one load, or one decision, may take at least, whoever waits for it; the hop gives up well before, unless it was
/// given longer: then that holds for these too.
const MIN_LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the service. It listens at once and is ready when the database was reached and its schema found right,
/// which may be long after: until then it says NOT_SERVING, and what it is asked is tried all the same.
///
/// # Errors
/// [`StartError::Build`]; [`StartError::Listen`]; [`StartError::OpsListen`]; those of [`build_database_client`].
pub async fn start(config: ServiceConfig, clock: SharedClock) -> Result<RunningService, StartError> {
    if config.release.require_canonical {
        build::THIS.require_canonical()?;
    }
    let remote = matches!(config.database.location, DatabaseLocation::Remote { .. });
    let (migrate, create_schema) = (config.database.migrate, config.database.create_schema);
    let heartbeat = config.database.heartbeat_interval;
    let listener = middleware_stack::bind(&config.listen).await?;
    let address = listener.address;
    let timeout = config.database.timeouts.total;
    let load = MIN_LOAD_TIMEOUT.max(timeout);
    let of_database = (config.database.location.token(), config.database.private_roots.clone());
    let hop = build_database_client(config.database, &clock)?;
    // After the database: of two processes on one embedded database, the second one is to hear of that.
    let ops = match config.ops.listen {
        Some(address) => {
            Some(ops::bind(address).await.map_err(|source| StartError::OpsListen { address, source })?)
        }
        None => None,
    };
    let ops_connections = listener.max_ops_connections;
    let ops_address = ops.as_ref().map(ops::OpsListener::address);

    let rpcs = Arc::new(RpcMetrics::default());
    let counts = Arc::new(OtlpCounts::default());
    let otlp = config.telemetry.otlp.as_ref();
    let otlp =
        otlp.map(|config| OtlpExporter::new(config, build::THIS.version, Arc::clone(&counts))).transpose();
    let otlp = otlp.map_err(|error| StartError::Collector(error.to_string()))?;

    let database = SqlStore::new(hop.clone(), Arc::clone(&config.keys.peppers));
    let peppers = Arc::clone(database.missing_pepper());
    let heard = Arc::new(FeedLiveness::default());
    let uses = Arc::new(LastUsedTracker::new(Arc::clone(&clock)));
    let keys = KeyLookup::new(database.clone(), Arc::clone(&config.keys.peppers), Arc::clone(&uses));
    let oldest = Arc::new(OldestAnswerAge::default());
    let grace = Arc::new(Grace::new(config.cache.records.policy.grace));
    let guesses = Arc::new(GuessLimiter::new(config.cache.guess_limits, Arc::clone(&clock)));
    let surroundings = || CacheContext {
        clock: Arc::clone(&clock),
        grace: Arc::clone(&grace),
        health: health_probe(&hop, &heard),
        known: Arc::clone(hop.known_database()),
        oldest_answer: Arc::clone(&oldest),
        guess_limiter: Arc::clone(&guesses),
    };
    let memory = RecordCache::new(
        BatchLookup::new(keys, Arc::clone(hop.known_database()), load),
        config.cache.records,
        surroundings(),
    );
    let session_cache = CacheConfig { max_records: config.sessions.cache_capacity, ..config.cache.records };
    let session_memory = RecordCache::new(
        BatchLookup::new(SessionTable::new(database.clone()), Arc::clone(hop.known_database()), load),
        session_cache,
        surroundings(),
    );
    let memories = (memory.clone(), session_memory.clone());
    let told = config.cache.feed_interval.map(|_| Arc::clone(&heard));
    let hub = Hub::new(Arc::clone(&clock), told.is_some());
    let known = Arc::clone(hop.known_database());
    let replica = replica_probe(&hop, &heard, told.is_some(), &clock);
    let feed =
        FeedPoller::new(database.clone(), memories.clone(), Arc::clone(&clock), heard, known, hub, timeout);
    let feed = Arc::new(feed);
    // It writes to a database that is not believed: that is what it is for.
    let any_database = SqlStore::new(hop.write_queue().clone(), Arc::clone(&config.keys.peppers));
    let recovery = Recovery::new(any_database, Arc::clone(&feed), Arc::clone(&clock));
    let format = config.keys.format;
    let denied = Arc::new(ActiveDenyList::default());
    let admin = Admin::new(database.clone(), memories.clone(), format.clone(), Arc::clone(&clock));
    let admin = Arc::new(admin.with_deny_list(Arc::clone(&denied), Arc::clone(&config.keys.peppers)));
    let inspector = KeyInspector::new(memory.clone(), Arc::clone(&denied), replica, Arc::clone(&clock));
    let revision = memory.clone();
    let validator = Arc::new(
        Validator::new(memory.clone(), format, Arc::clone(&clock)).with_deny_list(Arc::clone(&denied)),
    );

    let outage = Arc::new(OutageGrace::new(Arc::clone(&grace), database.clone(), Arc::clone(&clock)));
    let slides = Arc::new(SlidingExpiryTracker::default());
    let sessions = Arc::new(Sessions::new(
        database.clone(),
        Arc::clone(&validator),
        session_memory.clone(),
        Arc::clone(&slides),
        config.sessions.max_per_tenant,
        Arc::clone(&clock),
    ));

    let audit = config.audit.file.map(|path| {
        AuditCopy::start(database.clone(), Arc::clone(hop.known_database()), Arc::clone(&clock), path)
    });
    let audit = audit.transpose().map_err(StartError::Audit)?;

    let (meter, grouped, mut metering) = UsageJobs::start(database.clone(), config.usage, Arc::clone(&clock));

    let health = HealthReporter::new();
    let services = Services {
        fast_path_validator: Arc::clone(&validator),
        validation: ValidationRpc::new(Arc::clone(&validator), Arc::clone(&sessions), load),
        admin: AdminRpc::new(Arc::clone(&admin), Arc::clone(&outage), recovery, inspector),
        info: InfoRpc(ServerInfo {
            build: build::THIS,
            is_remote: remote,
            schema_version: KNOWN_VERSION,
            started_at: clock.monotonic(),
            clock: Arc::clone(&clock),
            revision: Box::new(move || revision.revision()),
        }),
        session: SessionRpc::new(Arc::clone(&sessions)),
        usage: UsageRpc::new(meter),
        watch: WatchRpc::new(feed.hub().clone()),
        health: health.clone(),
    };
    readiness::set_initial_health(&health).await;
    let (files, callers, certificates) = FileReloader::new(
        config.access,
        config.tls,
        Arc::clone(&denied),
        feed.hub().clone(),
        of_database,
        Arc::clone(&clock),
    );
    let pools = listener.limiters.clone();
    let watching = Instrumentation {
        rpc_metrics: Arc::clone(&rpcs),
        request_tracer: otlp.as_ref().map(OtlpExporter::request_tracer),
    };
    let server = listener.serve(services, watching, callers, certificates)?;
    health.set_service_status(readiness::PROCESS_HEALTH_NAME, ServingStatus::Serving).await;

    let preparation = DatabaseStartup {
        database_client: hop.clone(),
        peppers: config.keys.peppers,
        migrate,
        create_schema,
        clock: Arc::clone(&clock),
    };
    let (preparation, readiness) = preparation.spawn(health.clone());
    let following = match config.cache.feed_interval {
        Some(interval) => {
            tokio::spawn(feed_poller::poll_feed(Arc::clone(&feed), interval, readiness.clone()))
        }
        None => tokio::spawn(feed_poller::probe_database(hop.clone())),
    };

    let heartbeat = heartbeat.map(|interval| Heartbeat {
        database_client: hop.clone(),
        store: database.clone(),
        clock: Arc::clone(&clock),
        interval,
    });
    let beating = heartbeat.clone().map(|heartbeat| tokio::spawn(heartbeat.run(readiness.clone())));
    let copying = audit.clone().map(|copy| tokio::spawn(copy.run(readiness.clone())));
    let unreadable = Arc::clone(database.unreadable_records());
    metering.spawn_maintenance(readiness.clone());
    let upkeep = MaintenanceJobs::spawn(
        database,
        memories.clone(),
        config.cache.records.max_records,
        PendingWrites { last_used: uses, sliding_expiries: slides, outage_grace: outage },
        Arc::clone(&clock),
        readiness.clone(),
    );

    let lag = Arc::clone(hop.lag());
    let stopping = Arc::new(OnceLock::new());
    let (alive, ended) = oneshot::channel();
    let witnesses = StatusSources {
        clock: Arc::clone(&clock),
        readiness: readiness.clone(),
        stopping_since: Arc::clone(&stopping),
        database_client: hop,
        feed_liveness: told,
        oldest_answer: oldest,
        file_reloader: files.clone(),
        pepper_gap: peppers,
        denied,
        coverage_probe: CoverageProbe::new(memory.clone(), Arc::clone(&grace)),
    };
    let meters = Arc::new(MetricsSources {
        status_sources: witnesses.clone(),
        started_at: Moment::now(&clock),
        rpc_metrics: rpcs,
        limiters: pools,
        connections: server.connections().clone(),
        key_cache: (memory, config.cache.records),
        session_cache: (session_memory, session_cache),
        guesses,
        feed: Arc::clone(&feed),
        usage_batcher: grouped,
        reconcile_result: metering.reconcile_result(),
        audit_copy: audit.as_ref().map(|copy| Arc::clone(&copy.counts)),
        unreadable_records: unreadable,
        otlp: counts,
    });
    let sending = otlp.map(|otlp| {
        let meters = Arc::clone(&meters);
        otlp.start(Box::new(move || meters.snapshot()))
    });
    if let Some(ops) = ops {
        let metrics = Arc::new(move || prometheus::render(&meters.snapshot()));
        let told = ops::OpsState { status_check: witnesses.into_status_check(), metrics };
        tokio::spawn(ops.serve(told, ops_connections, async move {
            // Nothing is ever sent: it ends with its sender.
            let _: Result<Infallible, _> = ended.await;
        }));
    }
    Ok(RunningService {
        address,
        ops_address,
        clock,
        admin,
        validator,
        feed,
        scheduler_lag: lag,
        maintenance: upkeep,
        usage_jobs: metering,
        health,
        readiness,
        drain_delay: config.ops.drain_delay,
        stopping_since: stopping,
        reload_task: tokio::spawn(files.clone().run()),
        file_reloader: files,
        _ops_guard: alive,
        otlp_exporter: sending,
        server,
        startup_task: preparation,
        feed_task: following,
        heartbeat,
        heartbeat_task: beating,
        audit_copy: audit,
        audit_copy_task: copying,
    })
}
