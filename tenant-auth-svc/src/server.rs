//! The composition root: the only module that names every concrete type and fixes the order of the middleware
//! layers.
//!
//! `foundation` builds the database client and the caches, `use_cases` the use cases and RPC services,
//! `middleware_stack` the middleware layers, `background` the background tasks. `lifecycle` holds the running
//! service and its shutdown.

mod background;
mod coverage;
mod database_client;
mod database_startup;
mod error;
pub mod expiry;
mod foundation;
mod front_doors;
mod http_server;
mod lifecycle;
#[cfg(test)]
mod memory_budget;
mod metrics_source;
mod middleware_stack;
mod reload;
mod secret_scanning;
mod status_source;
mod upstream_health;
mod use_cases;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::oneshot;
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    background::{BackgroundTasks, DatabaseSettings},
    coverage::CoverageProbe,
    foundation::{Caches, Foundation},
    front_doors::FrontDoors,
    http_server::HttpServer,
    metrics_source::{MetricsFormat, MetricsSources},
    middleware_stack::Instrumentation,
    reload::FileReloader,
    status_source::StatusSources,
    use_cases::UseCases,
};
pub use self::{database_client::build_database_client, error::StartError, lifecycle::RunningService};
use crate::{
    build,
    config::{DatabaseLocation, OtlpConfig, ServiceConfig},
    console::{self, ConsoleListener, ConsoleParts},
    domain::clock::{Moment, SharedClock},
    jobs::{audit_copy::AuditCopy, limits::LimitJobs, maintenance::PendingWrites, usage::UsageJobs},
    middleware::metrics::RpcMetrics,
    ops,
    telemetry::{
        otlp::{OtlpCounts, OtlpExporter},
        prometheus,
    },
};

/// Starts the service. It listens at once. It is ready when it has reached the database and its schema is
/// valid, which can take long. Until then its health is NOT_SERVING, but it already handles requests.
///
/// # Errors
/// [`StartError::Build`]; [`StartError::Listen`]; [`StartError::OpsListen`]; [`StartError::Collector`];
/// [`StartError::Audit`]; the errors of [`build_database_client`].
pub async fn start(config: ServiceConfig, clock: SharedClock) -> Result<RunningService, StartError> {
    if config.release.require_canonical {
        build::THIS.require_canonical()?;
    }
    let has_forward_address = config.front_doors.listen.is_some();
    let listener = middleware_stack::bind(&config.listen, has_forward_address).await?;
    let is_remote = matches!(config.database.location, DatabaseLocation::Remote { .. });
    let database_settings = DatabaseSettings::from(&config.database);
    let database_files = (config.database.tokens(), config.database.private_roots.clone());
    let lookup_timeout = config.database.timeouts.total;
    let client = build_database_client(config.database, &clock)?;
    // After the database client: a second process on one embedded database then fails with the error about
    // the database, not about the port.
    let ops = bind_ops(config.ops.listen).await?;
    let otlp_counts = Arc::new(OtlpCounts::default());
    let console = bind_console(config.console.listen).await?;
    let otlp = build_otlp(config.telemetry.otlp.as_ref(), &otlp_counts)?;

    let base = Foundation::new(client, config.keys.peppers, lookup_timeout, Arc::clone(&clock));
    let caches = Caches::new(&base, &config.cache, &config.sessions);
    let feed_enabled = config.cache.feed_interval.is_some();
    let max_sessions = config.sessions.max_per_tenant;
    let leak_policy = config.leaks.default_policy;
    let use_cases =
        UseCases::new(&base, &caches, config.keys.format, feed_enabled, max_sessions, leak_policy);
    let leaks = Arc::clone(&use_cases.leaks);
    let audit_copy = start_audit_copy(&base, config.audit.file)?;
    let (usage_recorder, usage_batcher, mut usage_jobs) =
        UsageJobs::start(base.store.clone(), config.usage, Arc::clone(&clock));

    let (feed, deny_list) = (Arc::clone(&use_cases.feed), Arc::clone(&use_cases.deny_list));
    let (admin, validator) = (Arc::clone(&use_cases.admin), Arc::clone(&use_cases.validator));
    let pending_writes = PendingWrites {
        last_used: Arc::clone(&caches.last_used),
        sliding_expiries: Arc::clone(&use_cases.sliding_expiries),
        outage_grace: Arc::clone(&use_cases.outage_grace),
    };
    let health = HealthReporter::new();
    database_startup::set_initial_health(&health).await;
    let times = (config.cache.records.policy.fresh, base.load_timeout());
    let front_doors = FrontDoors::bind(config.front_doors, Arc::clone(&validator), times, &clock).await?;
    let services =
        use_cases.into_services(&base, &caches, usage_recorder, health.clone(), is_remote, &front_doors);
    let signing_keys = front_doors.keys_file.clone().map(|path| (path, Arc::clone(&front_doors.tokens)));
    let (file_reloader, callers, certificates) = FileReloader::new(
        config.access,
        config.tls,
        Arc::clone(&deny_list),
        feed.hub().clone(),
        database_files,
        signing_keys,
        Arc::clone(&clock),
    );
    let (address, limiters) = (listener.address, listener.limiters.clone());
    let (max_ops_connections, max_forward_connections) =
        (listener.max_ops_connections, listener.max_forward_connections);
    let rpc_metrics = Arc::new(RpcMetrics::default());
    let instrumentation = Instrumentation {
        rpc_metrics: Arc::clone(&rpc_metrics),
        request_tracer: otlp.as_ref().map(OtlpExporter::request_tracer),
    };
    let door_counts = Arc::clone(&front_doors.counts);
    let forward_server = front_doors.serve(
        callers.clone(),
        certificates.clone(),
        (limiters.clone(), max_forward_connections),
        Arc::clone(&rpc_metrics),
    );
    let (server, rpc) = listener.serve(services, instrumentation, callers.clone(), certificates.clone())?;
    health.set_service_status(database_startup::PROCESS_HEALTH_NAME, ServingStatus::Serving).await;

    let background = BackgroundTasks::spawn(
        &base,
        &caches,
        (database_settings, &config.cache),
        (Arc::clone(&feed), pending_writes),
        audit_copy.as_ref(),
        &mut usage_jobs,
        health.clone(),
    );

    let limits = caches.limits.clone();
    let stopping_since = Arc::new(OnceLock::new());
    let status_sources = StatusSources {
        clock: Arc::clone(&clock),
        readiness: background.readiness.clone(),
        stopping_since: Arc::clone(&stopping_since),
        database_client: base.client.clone(),
        feed_liveness: feed_enabled.then(|| Arc::clone(&caches.feed_liveness)),
        oldest_answer: Arc::clone(&caches.oldest_answer),
        file_reloader: file_reloader.clone(),
        pepper_gap: Arc::clone(base.store.missing_pepper()),
        denied: deny_list,
        limits: limits.clone(),
        coverage_probe: CoverageProbe::new(caches.keys.clone(), Arc::clone(&caches.grace)),
    };
    let metrics_sources = Arc::new(MetricsSources {
        status_sources: status_sources.clone(),
        started_at: Moment::now(&clock),
        rpc_metrics,
        limiters,
        connections: server.connections().clone(),
        key_cache: (caches.keys, caches.key_config),
        session_cache: (caches.sessions, caches.session_config),
        unknown_lookup_limiter: caches.unknown_lookup_limiter,
        feed: Arc::clone(&feed),
        usage_batcher,
        reconcile_result: usage_jobs.reconcile_result(),
        audit_copy: audit_copy.as_ref().map(|copy| Arc::clone(&copy.counts)),
        unreadable_records: Arc::clone(base.store.unreadable_records()),
        leaks: Arc::clone(&leaks),
        door_counts,
        otlp: otlp_counts,
    });
    let otlp_exporter = otlp.map(|otlp| {
        let sources = Arc::clone(&metrics_sources);
        otlp.start(Box::new(move || sources.snapshot(MetricsFormat::Otlp)))
    });
    let ops_address = ops.as_ref().map(ops::OpsListener::address);
    let secret_scanning = config.leaks.signing_keys.map(|location| {
        secret_scanning::build(location, leaks, Arc::clone(&clock)).map_err(StartError::SecretScanning)
    });
    let secret_scanning = secret_scanning.transpose()?;
    let status_check = status_sources.clone().into_status_check();
    let console_server = console.map(|listener| {
        let parts = ConsoleParts {
            callers,
            rpc,
            status: status_check,
            clock: Arc::clone(&clock),
            readings: {
                let sources = Arc::clone(&metrics_sources);
                Arc::new(move || sources.reading())
            },
            peers: config.console.peers,
            peers_token_file: config.console.peers_token_file,
        };
        HttpServer::start(listener.address(), |end| listener.serve(parts, certificates, end))
    });
    let ops_guard = serve_ops(ops, status_sources, metrics_sources, secret_scanning, max_ops_connections);
    Ok(RunningService {
        address,
        ops_address,
        forward_server,
        console_server,
        clock,
        admin,
        validator,
        feed,
        scheduler_lag: Arc::clone(base.client.lag()),
        maintenance: background.maintenance,
        limit_jobs: LimitJobs::spawn(limits, base.store.clone(), background.readiness.clone()),
        usage_jobs,
        health,
        readiness: background.readiness,
        drain_delay: config.ops.drain_delay,
        stopping_since,
        reload_task: tokio::spawn(file_reloader.clone().run()),
        file_reloader,
        _ops_guard: ops_guard,
        otlp_exporter,
        server,
        startup_task: background.startup_task,
        feed_task: background.feed_task,
        heartbeat: background.heartbeat,
        heartbeat_task: background.heartbeat_task,
        audit_copy,
        audit_copy_task: background.audit_copy_task,
    })
}

async fn bind_ops(address: Option<SocketAddr>) -> Result<Option<ops::OpsListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let listener = ops::bind(address).await.map_err(|source| StartError::OpsListen { address, source })?;
    Ok(Some(listener))
}

async fn bind_console(address: Option<SocketAddr>) -> Result<Option<ConsoleListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bound = console::bind(address).await;
    Ok(Some(bound.map_err(|source| StartError::ConsoleListen { address, source })?))
}

fn build_otlp(
    config: Option<&OtlpConfig>,
    counts: &Arc<OtlpCounts>,
) -> Result<Option<OtlpExporter>, StartError> {
    let exporter = config.map(|config| OtlpExporter::new(config, build::THIS.version, Arc::clone(counts)));
    exporter.transpose().map_err(|error| StartError::Collector(error.to_string()))
}

fn start_audit_copy(base: &Foundation, file: Option<PathBuf>) -> Result<Option<AuditCopy>, StartError> {
    let known = Arc::clone(base.client.known_database());
    let copy = file.map(|path| AuditCopy::start(base.store.clone(), known, Arc::clone(&base.clock), path));
    copy.transpose().map_err(StartError::Audit)
}

/// Serves health and metrics over HTTP until the returned sender is dropped.
fn serve_ops(
    listener: Option<ops::OpsListener>,
    status: StatusSources,
    metrics: Arc<MetricsSources>,
    secret_scanning: Option<ops::secret_scanning::SecretScanning>,
    max_connections: usize,
) -> oneshot::Sender<Infallible> {
    let (guard, dropped) = oneshot::channel();
    if let Some(listener) = listener {
        let metrics = Arc::new(move || prometheus::render(&metrics.snapshot(MetricsFormat::Prometheus)));
        let status_check = status.into_status_check();
        let state = ops::OpsState { status_check, metrics, secret_scanning };
        tokio::spawn(listener.serve(state, max_connections, async move {
            // Nothing is ever sent. The channel closes when its sender is dropped.
            let _: Result<Infallible, _> = dropped.await;
        }));
    }
    guard
}
