//! The composition root: the only place that names every concrete type, and where the orders are written down.

mod following;
mod listening;
mod readiness;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    listening::Services,
    readiness::{Preparation, State},
};
use crate::{
    build,
    config::{DatabaseConfig, Location, ServiceConfig},
    domain::{admin::Admin, clock::SharedClock, freshness::World, validate::Validator},
    freshness::feed::{Feed, Heard},
    grpc::{AdminRpc, InfoRpc, ServerInfo, SessionRpc, UsageRpc, ValidationRpc, WatchRpc},
    store::{
        backend::Backend,
        bounded::{Allowances, Bounded},
        breaker::Breaker,
        cached::{Cached, Outlook},
        coalesced::Coalesced,
        hrana::{RemoteConfig, RemoteEngine, SetupError},
        libsql::{EmbeddedEngine, OpenError},
        migrate::{KNOWN_VERSION, SchemaError},
        observed::Observed,
        retried::Retried,
        sql::SqlStore,
    },
};

/// The database hop, outermost first: what fails is tried once more; a database that does not answer is not asked; each
/// call that leaves is observed; and the number of calls in flight is bounded.
pub type Hop = Arc<Retried<Breaker<Observed<Bounded<Backend>>>>>;
/// What the use cases write to.
pub type Database = SqlStore<Hop>;
/// What the use cases read from.
pub type Memory = Cached<Database>;
/// How this replica learns what others have changed.
pub type ChangeFeed = Feed<Hop, Memory>;

/// How long requests that are under way may take after the service was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long one load may take, whoever waits for it; the hop has limits of its own well below.
const LOAD: Duration = Duration::from_secs(2);

/// Why the service could not start, or had to stop.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The embedded database cannot be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The remote database cannot be prepared for.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The database cannot be used as it is.
    #[error(transparent)]
    Schema(Arc<SchemaError>),
    /// The server broke.
    #[error("the server ended unexpectedly: {0}")]
    Server(String),
}

/// A running service. It serves until it is told to stop, or dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    admin: Arc<Admin<Database, Memory>>,
    validator: Arc<Validator<Memory>>,
    feed: Arc<ChangeFeed>,
    health: HealthReporter,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    preparation: JoinHandle<()>,
    following: Option<JoinHandle<()>>,
}

/// Prepares the database hop that a configuration asks for. Connects to nothing remote yet.
///
/// # Errors
/// [`StartError::Open`] when an embedded database is in use or broken; [`StartError::Setup`].
pub fn hop(config: DatabaseConfig, clock: &SharedClock) -> Result<Hop, StartError> {
    let backend = match config.location {
        Location::Embedded(path) => Backend::Embedded(EmbeddedEngine::open(&path)?),
        Location::Remote { url, token } => Backend::Remote(RemoteEngine::new(RemoteConfig {
            url,
            token,
            connect_timeout: config.connect_timeout,
        })?),
    };
    let bounded = Bounded::new(backend, Allowances::of_total(config.in_flight));
    let breaker = Breaker::new(Observed::new(bounded), Arc::clone(clock));
    Ok(Arc::new(Retried::new(breaker, config.timing)))
}

/// Starts the service. It listens at once and is ready when the database was reached and its schema found right,
/// which may be long after: until then it says NOT_SERVING, and what it is asked is tried all the same.
///
/// # Errors
/// [`StartError::Listen`]; those of [`hop`].
pub async fn start(config: ServiceConfig, clock: SharedClock) -> Result<Running, StartError> {
    let remote = matches!(config.database.location, Location::Remote { .. });
    let migrate = config.database.migrate;
    let listener = listening::bind(&config.listen).await?;
    let address = listener.address;
    let timeout = config.database.timing.total;
    let hop = hop(config.database, &clock)?;

    let database = SqlStore::new(Arc::clone(&hop), Arc::clone(&config.keys.peppers));
    let heard = Arc::new(Heard::default());
    let memory = Cached::new(
        Coalesced::new(database.clone(), LOAD),
        config.memory.cache,
        Arc::clone(&clock),
        outlook(&hop, &heard),
    );
    let feed = Arc::new(Feed::new(Arc::clone(&hop), memory.clone(), Arc::clone(&clock), heard, timeout));
    let format = config.keys.format;
    let admin = Arc::new(Admin::new(database, memory.clone(), format.clone(), Arc::clone(&clock)));
    let revision = memory.clone();
    let validator = Arc::new(Validator::new(memory, format, Arc::clone(&clock)));

    let health = HealthReporter::new();
    let (stop, stopped) = watch::channel(false);
    let services = Services {
        validation: ValidationRpc::new(Arc::clone(&validator)),
        admin: AdminRpc::new(Arc::clone(&admin)),
        info: InfoRpc(ServerInfo {
            build: build::THIS,
            remote,
            schema_version: KNOWN_VERSION,
            started_at: clock.monotonic(),
            clock: Arc::clone(&clock),
            revision: Box::new(move || revision.revision()),
        }),
        session: SessionRpc,
        usage: UsageRpc,
        watch: WatchRpc,
        health: health.clone(),
    };
    readiness::announce_not_ready(&health).await;
    let server = tokio::spawn(listener.serve(services, stopped));
    health.set_service_status(readiness::PROCESS, ServingStatus::Serving).await;

    let preparation = Preparation { hop, peppers: config.keys.peppers, migrate, clock };
    let (preparation, state) = preparation.begin(health.clone());
    let following = config
        .memory
        .feed_interval
        .map(|interval| tokio::spawn(following::follow(Arc::clone(&feed), interval, state.clone())));
    Ok(Running { address, admin, validator, feed, health, state, stop, server, preparation, following })
}

/// How the database and its feed fare, as memory wants to know it.
fn outlook(hop: &Hop, heard: &Arc<Heard>) -> Outlook {
    let (hop, heard) = (Arc::clone(hop), Arc::clone(heard));
    Box::new(move |now| {
        if hop.inner().is_open() {
            World::Failing
        } else if heard.recently(now) {
            World::Heard
        } else {
            World::Silent
        }
    })
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operator's use cases, for what runs in the same process.
    #[must_use]
    pub fn admin(&self) -> &Admin<Database, Memory> {
        &self.admin
    }

    /// The decisions, for what runs in the same process.
    #[must_use]
    pub fn validator(&self) -> &Validator<Memory> {
        &self.validator
    }

    /// The change feed, to be read at a moment of one's own.
    #[must_use]
    pub fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// Waits until the database was reached and its schema found right.
    ///
    /// # Errors
    /// [`StartError::Schema`] when it cannot be used as it is.
    pub async fn ready(&mut self) -> Result<(), StartError> {
        let state = self.state.wait_for(|state| !matches!(state, State::Waiting)).await;
        match state.as_deref() {
            Ok(State::Unusable(error)) => Err(StartError::Schema(Arc::clone(error))),
            Ok(State::Waiting | State::Ready) => Ok(()),
            Err(_) => Err(StartError::Server("the preparation ended".to_owned())),
        }
    }

    /// Waits until the service has to stop by itself, and says why.
    pub async fn failed(&mut self) -> StartError {
        let unusable = async {
            match self.state.wait_for(|state| matches!(state, State::Unusable(_))).await.as_deref() {
                Ok(State::Unusable(error)) => StartError::Schema(Arc::clone(error)),
                // The preparation is over once the service is ready: then only the server can fail.
                Ok(State::Waiting | State::Ready) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = unusable => error,
            ended = &mut self.server => StartError::Server(match ended {
                Ok(Ok(())) => "it was told to stop".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            }),
        }
    }

    /// Says NOT_SERVING, takes no new connections, and lets requests that are under way end, for a while.
    pub async fn stop(mut self) {
        readiness::announce_not_ready(&self.health).await;
        // Nobody listens any more when the server has ended by itself.
        let _ = self.stop.send(true);
        if tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            tracing::warn!("requests were still under way after {DRAIN:?} and were cut off");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.preparation.abort();
        if let Some(following) = &self.following {
            following.abort();
        }
        self.server.abort();
    }
}
