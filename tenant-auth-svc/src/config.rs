//! The configuration: read once, validated as a whole, every problem reported.
//!
//! One struct per concern. The documentation of each field names its variable, unit and default. A command-line flag
//! overrides the variable of the same name.

mod access;
mod audit;
mod cache;
mod console;
mod database;
mod front_doors;
mod keys;
mod leaks;
mod listen;
mod log;
mod ops;
mod parse;
mod reader;
mod release;
mod sessions;
mod telemetry;
mod tls;
mod usage;

pub use self::{
    access::{AccessConfig, CallersFile, DenyFile, read_callers, read_deny_list},
    audit::AuditConfig,
    cache::CacheSettings,
    console::{ConsoleConfig, PeerUrl},
    database::{DatabaseConfig, DatabaseLocation, ReadReplicaConfig},
    front_doors::{FrontDoorsConfig, PrincipalConfig, read_signing_keys},
    keys::KeysConfig,
    leaks::{LeaksConfig, SigningKeysLocation},
    listen::ListenConfig,
    log::{LogConfig, LogFormat},
    ops::OpsConfig,
    parse::parse_address,
    reader::{ConfigReader, Origin, Problem, Setting, Settings},
    release::ReleaseConfig,
    sessions::SessionsConfig,
    telemetry::{OtlpConfig, TelemetryConfig},
    tls::TlsConfig,
    usage::UsageConfig,
};

/// The configuration of `serve`.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Listen address and limits.
    pub listen: ListenConfig,
    /// TLS of gRPC connections.
    pub tls: TlsConfig,
    /// Which services may call.
    pub access: AccessConfig,
    /// Front doors.
    pub front_doors: FrontDoorsConfig,
    /// The console.
    pub console: ConsoleConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// Format and hashing of keys.
    pub keys: KeysConfig,
    /// The cache, and the change feed that keeps it current.
    pub cache: CacheSettings,
    /// Limits of sessions.
    pub sessions: SessionsConfig,
    /// Leaked keys.
    pub leaks: LeaksConfig,
    /// Recording of usage.
    pub usage: UsageConfig,
    /// Copy of the audit log to a file.
    pub audit: AuditConfig,
    /// Health, metrics and shutdown.
    pub ops: OpsConfig,
    /// Export of spans and metrics.
    pub telemetry: TelemetryConfig,
    /// Logging.
    pub log: LogConfig,
    /// Which builds may run.
    pub release: ReleaseConfig,
}

/// The configuration is invalid. Lists every problem, not only the first.
#[derive(Debug, thiserror::Error)]
#[error("invalid configuration:\n{}", .0.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n"))]
pub struct InvalidConfig(pub Vec<Problem>);

impl ServiceConfig {
    /// Reads all settings. Also returns each setting with its origin.
    ///
    /// # Errors
    /// [`InvalidConfig`] lists every value that is missing or invalid.
    pub fn read(settings: Settings) -> Result<(Self, Vec<Setting>), InvalidConfig> {
        let mut reader = ConfigReader::new(settings);
        let tls = TlsConfig::read(&mut reader);
        let access = AccessConfig::read(&mut reader);
        let listen = ListenConfig::read(&mut reader, tls.as_ref(), access.as_ref());
        let front_doors = FrontDoorsConfig::read(&mut reader, listen.as_ref());
        let console = ConsoleConfig::read(&mut reader, listen.as_ref());
        let database = DatabaseConfig::read(&mut reader);
        let keys = KeysConfig::read(&mut reader);
        let cache = cache::read(&mut reader);
        let has_read_replica = database.as_ref().is_some_and(|database| database.read_replica.is_some());
        if has_read_replica && cache.as_ref().is_some_and(|cache| cache.feed_interval.is_none()) {
            reader.report_problem(
                "TENANT_AUTH_FEED_INTERVAL",
                "must not be off with TENANT_AUTH_DATABASE_READ_URL: the feed compares the read replica with its primary",
            );
        }
        let sessions = SessionsConfig::read(&mut reader);
        let leaks = LeaksConfig::read(&mut reader);
        let usage = UsageConfig::read(&mut reader);
        let audit = AuditConfig::read(&mut reader);
        let ops = OpsConfig::read(&mut reader);
        let telemetry = TelemetryConfig::read(&mut reader);
        let log = LogConfig::read(&mut reader);
        let release = ReleaseConfig::read(&mut reader);
        let read = reader.finish().map_err(InvalidConfig)?;
        match (
            listen,
            tls,
            access,
            front_doors,
            console,
            database,
            keys,
            cache,
            sessions,
            leaks,
            usage,
            audit,
            ops,
            telemetry,
            log,
            release,
        ) {
            (
                Some(listen),
                Some(tls),
                Some(access),
                Some(front_doors),
                Some(console),
                Some(database),
                Some(keys),
                Some(cache),
                Some(sessions),
                Some(leaks),
                Some(usage),
                Some(audit),
                Some(ops),
                Some(telemetry),
                Some(log),
                Some(release),
            ) => {
                let all = Self {
                    listen,
                    tls,
                    access,
                    front_doors,
                    console,
                    database,
                    keys,
                    cache,
                    sessions,
                    leaks,
                    usage,
                    audit,
                    ops,
                    telemetry,
                    log,
                    release,
                };
                Ok((all, read))
            }
            // A reader without problems has a value for everything.
            _ => Err(InvalidConfig(Vec::new())),
        }
    }
}
