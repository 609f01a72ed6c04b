//! The composition root: the only place that names every concrete type, and where the orders are written down.

#[cfg(test)]
mod bounds;
mod coverage;
mod error;
pub mod expiry;
mod hop;
mod lifecycle;
mod metrics_source;
pub(crate) mod readiness;
mod reload;
mod stack;
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
    metrics_source::Meters,
    readiness::Preparation,
    reload::Reloading,
    stack::{Services, Watching},
    status_source::Witnesses,
    upstream_health::{outlook, replica},
};
pub use self::{error::StartError, hop::hop, lifecycle::Running};
use crate::{
    build,
    cache::{
        CacheConfig, Cached, Surroundings,
        batch_lookup::Coalesced,
        oldest::Oldest,
        source::{Keys, Sessions as SessionTable},
    },
    change_feed::{
        hub::Hub,
        reader::{Feed, Heard},
    },
    config::{Location, ServiceConfig},
    database::{
        client::{Attempts, DatabaseClient, write_queue::WriteQueue},
        migrate::KNOWN_VERSION,
        sql::SqlStore,
    },
    domain::{
        admin::Admin,
        clock::{Moment, SharedClock},
        deny::Denied,
        grace::Grace,
        guesses::Guesses,
        inspect::KeyInspector,
        outage::OutageGrace,
        recovery::Recovery,
        session::Slides,
        sessions::Sessions,
        usage::Meter,
        used::Uses,
        validate::Validator,
    },
    grpc::{AdminRpc, InfoRpc, ServerInfo, SessionRpc, UsageRpc, ValidationRpc, WatchRpc},
    jobs::{
        audit_copy::AuditCopy,
        feed_poller,
        heartbeat::Heartbeat,
        upkeep::{Pending, Upkeep},
        usage::Metering,
    },
    middleware::metrics::Rpcs,
    ops,
    telemetry::{
        otlp::{Otlp, OtlpCounts},
        prometheus,
    },
    usage_batcher::Grouped,
};

/// The way to the database.
pub type Hop = DatabaseClient;
/// What the use cases write to.
pub type Database = SqlStore<Hop>;
/// What the use cases read from.
pub type Memory = Cached<Keys<Database>>;
/// … of sessions.
pub type SessionMemory = Cached<SessionTable<Database>>;
/// What has to hear of every change.
pub type Memories = (Memory, SessionMemory);
/// What records and sums usage.
pub type UsageMeter = Meter<Grouped, Database>;
/// What an operator accepts the database through.
pub type AnyDatabase = SqlStore<WriteQueue<Attempts>>;
/// How this replica learns what others have changed.
pub type ChangeFeed = Feed<Database, Memories>;

/// How long one load, or one decision, may take at least, whoever waits for it; the hop gives up well before, unless it was
/// given longer: then that holds for these too.
const LOAD: Duration = Duration::from_secs(2);

/// Starts the service. It listens at once and is ready when the database was reached and its schema found right,
/// which may be long after: until then it says NOT_SERVING, and what it is asked is tried all the same.
///
/// # Errors
/// [`StartError::Build`]; [`StartError::Listen`]; [`StartError::OpsListen`]; those of [`hop`].
pub async fn start(config: ServiceConfig, clock: SharedClock) -> Result<Running, StartError> {
    if config.release.require_canonical {
        build::THIS.require_canonical()?;
    }
    let remote = matches!(config.database.location, Location::Remote { .. });
    let (migrate, create_schema) = (config.database.migrate, config.database.create_schema);
    let heartbeat = config.database.heartbeat;
    let listener = stack::bind(&config.listen).await?;
    let address = listener.address;
    let timeout = config.database.timeouts.total;
    let load = LOAD.max(timeout);
    let of_database = (config.database.location.token(), config.database.roots.clone());
    let hop = hop(config.database, &clock)?;
    // After the database: of two processes on one embedded database, the second one is to hear of that.
    let ops = match config.ops.listen {
        Some(address) => {
            Some(ops::bind(address).await.map_err(|source| StartError::OpsListen { address, source })?)
        }
        None => None,
    };
    let ops_connections = listener.ops_connections;
    let ops_address = ops.as_ref().map(ops::Listener::address);

    let rpcs = Arc::new(Rpcs::default());
    let counts = Arc::new(OtlpCounts::default());
    let otlp = config.telemetry.otlp.as_ref();
    let otlp = otlp.map(|config| Otlp::new(config, build::THIS.version, Arc::clone(&counts))).transpose();
    let otlp = otlp.map_err(|error| StartError::Collector(error.to_string()))?;

    let database = SqlStore::new(hop.clone(), Arc::clone(&config.keys.peppers));
    let peppers = Arc::clone(database.pepper_gap());
    let heard = Arc::new(Heard::default());
    let uses = Arc::new(Uses::new(Arc::clone(&clock)));
    let keys = Keys::new(database.clone(), Arc::clone(&config.keys.peppers), Arc::clone(&uses));
    let oldest = Arc::new(Oldest::default());
    let grace = Arc::new(Grace::new(config.memory.cache.lifetimes.grace));
    let guesses = Arc::new(Guesses::new(config.memory.guesses, Arc::clone(&clock)));
    let surroundings = || Surroundings {
        clock: Arc::clone(&clock),
        grace: Arc::clone(&grace),
        outlook: outlook(&hop, &heard),
        known: Arc::clone(hop.known()),
        oldest: Arc::clone(&oldest),
        guesses: Arc::clone(&guesses),
    };
    let memory =
        Cached::new(Coalesced::new(keys, Arc::clone(hop.known()), load), config.memory.cache, surroundings());
    let session_cache = CacheConfig { keys: config.sessions.in_memory, ..config.memory.cache };
    let session_memory = Cached::new(
        Coalesced::new(SessionTable::new(database.clone()), Arc::clone(hop.known()), load),
        session_cache,
        surroundings(),
    );
    let memories = (memory.clone(), session_memory.clone());
    let told = config.memory.feed_interval.map(|_| Arc::clone(&heard));
    let hub = Hub::new(Arc::clone(&clock), told.is_some());
    let known = Arc::clone(hop.known());
    let replica = replica(&hop, &heard, told.is_some(), &clock);
    let feed = Feed::new(database.clone(), memories.clone(), Arc::clone(&clock), heard, known, hub, timeout);
    let feed = Arc::new(feed);
    // It writes to a database that is not believed: that is what it is for.
    let any_database = SqlStore::new(hop.writes().clone(), Arc::clone(&config.keys.peppers));
    let recovery = Recovery::new(any_database, Arc::clone(&feed), Arc::clone(&clock));
    let format = config.keys.format;
    let denied = Arc::new(Denied::default());
    let admin = Admin::new(database.clone(), memories.clone(), format.clone(), Arc::clone(&clock));
    let admin = Arc::new(admin.denying(Arc::clone(&denied), Arc::clone(&config.keys.peppers)));
    let inspector = KeyInspector::new(memory.clone(), Arc::clone(&denied), replica, Arc::clone(&clock));
    let revision = memory.clone();
    let validator =
        Arc::new(Validator::new(memory.clone(), format, Arc::clone(&clock)).denying(Arc::clone(&denied)));

    let outage = Arc::new(OutageGrace::new(Arc::clone(&grace), database.clone(), Arc::clone(&clock)));
    let slides = Arc::new(Slides::default());
    let sessions = Arc::new(Sessions::new(
        database.clone(),
        Arc::clone(&validator),
        session_memory.clone(),
        Arc::clone(&slides),
        config.sessions.per_tenant,
        Arc::clone(&clock),
    ));

    let audit = config
        .audit
        .file
        .map(|path| AuditCopy::begin(database.clone(), Arc::clone(hop.known()), Arc::clone(&clock), path));
    let audit = audit.transpose().map_err(StartError::Audit)?;

    let (meter, grouped, mut metering) = Metering::begin(database.clone(), config.usage, Arc::clone(&clock));

    let health = HealthReporter::new();
    let services = Services {
        hits: Arc::clone(&validator),
        validation: ValidationRpc::new(Arc::clone(&validator), Arc::clone(&sessions), load),
        admin: AdminRpc::new(Arc::clone(&admin), Arc::clone(&outage), recovery, inspector),
        info: InfoRpc(ServerInfo {
            build: build::THIS,
            remote,
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
    readiness::announce_start(&health).await;
    let (files, callers, certificates) = Reloading::new(
        config.access,
        config.tls,
        Arc::clone(&denied),
        feed.hub().clone(),
        of_database,
        Arc::clone(&clock),
    );
    let pools = listener.pools.clone();
    let watching = Watching { rpcs: Arc::clone(&rpcs), tracing: otlp.as_ref().map(Otlp::tracing) };
    let server = listener.serve(services, watching, callers, certificates)?;
    health.set_service_status(readiness::PROCESS, ServingStatus::Serving).await;

    let preparation = Preparation {
        hop: hop.clone(),
        peppers: config.keys.peppers,
        migrate,
        create_schema,
        clock: Arc::clone(&clock),
    };
    let (preparation, readiness) = preparation.begin(health.clone());
    let following = match config.memory.feed_interval {
        Some(interval) => tokio::spawn(feed_poller::follow(Arc::clone(&feed), interval, readiness.clone())),
        None => tokio::spawn(feed_poller::look(hop.clone())),
    };

    let heartbeat = heartbeat.map(|interval| Heartbeat {
        hop: hop.clone(),
        database: database.clone(),
        clock: Arc::clone(&clock),
        interval,
    });
    let beating = heartbeat.clone().map(|heartbeat| tokio::spawn(heartbeat.keep_beating(readiness.clone())));
    let copying = audit.clone().map(|copy| tokio::spawn(copy.keep_copying(readiness.clone())));
    let unreadable = Arc::clone(database.unreadable());
    metering.begin_upkeep(readiness.clone());
    let upkeep = Upkeep::begin(
        database,
        memories.clone(),
        config.memory.cache.keys,
        Pending { uses, slides, outage },
        Arc::clone(&clock),
        readiness.clone(),
    );

    let lag = Arc::clone(hop.lag());
    let stopping = Arc::new(OnceLock::new());
    let (alive, ended) = oneshot::channel();
    let witnesses = Witnesses {
        clock: Arc::clone(&clock),
        readiness: readiness.clone(),
        stopping: Arc::clone(&stopping),
        hop,
        heard: told,
        oldest,
        files: files.clone(),
        peppers,
        denied,
        coverage: CoverageProbe::new(memory.clone(), Arc::clone(&grace)),
    };
    let meters = Arc::new(Meters {
        witnesses: witnesses.clone(),
        began: Moment::now(&clock),
        rpcs,
        pools,
        connections: server.connections().clone(),
        keys: (memory, config.memory.cache),
        sessions: (session_memory, session_cache),
        guesses,
        feed: Arc::clone(&feed),
        usage: grouped,
        reconciled: metering.reconciled(),
        audit: audit.as_ref().map(|copy| Arc::clone(&copy.counts)),
        unreadable,
        otlp: counts,
    });
    let sending = otlp.map(|otlp| {
        let meters = Arc::clone(&meters);
        otlp.send(Box::new(move || meters.snapshot()))
    });
    if let Some(ops) = ops {
        let metrics = Arc::new(move || prometheus::text(&meters.snapshot()));
        let told = ops::Told { look: witnesses.look(), metrics };
        tokio::spawn(ops.serve(told, ops_connections, async move {
            // Nothing is ever sent: it ends with its sender.
            let _: Result<Infallible, _> = ended.await;
        }));
    }
    Ok(Running {
        address,
        ops_address,
        clock,
        admin,
        validator,
        feed,
        lag,
        upkeep,
        metering,
        health,
        readiness,
        drain_delay: config.ops.drain_delay,
        stopping,
        looking: tokio::spawn(files.clone().keep_looking()),
        files,
        _alive: alive,
        sending,
        server,
        preparation,
        following,
        heartbeat,
        beating,
        audit,
        copying,
    })
}
