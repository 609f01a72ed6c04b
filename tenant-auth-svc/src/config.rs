//! The configuration: read once, checked as a whole, explained in full.
//!
//! One struct per concern; each field's documentation names its variable, unit and default. A flag of the command line
//! stands for the variable of the same name and wins over it.

mod access;
mod audit;
mod cache;
mod database;
mod keys;
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
    database::{DatabaseConfig, DatabaseLocation},
    keys::KeysConfig,
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

/// Everything that `serve` needs to know.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Where to listen.
    pub listen: ListenConfig,
    /// How connections are encrypted.
    pub tls: TlsConfig,
    /// Who may call.
    pub access: AccessConfig,
    /// What to decide against.
    pub database: DatabaseConfig,
    /// How keys look and are hashed.
    pub keys: KeysConfig,
    /// What to remember, and how to learn what has changed.
    pub cache: CacheSettings,
    /// How many sessions there may be.
    pub sessions: SessionsConfig,
    /// How usage is metered.
    pub usage: UsageConfig,
    /// Where the audit log is copied to.
    pub audit: AuditConfig,
    /// What those who run the service see of it, and how it ends.
    pub ops: OpsConfig,
    /// Where spans and metrics are sent.
    pub telemetry: TelemetryConfig,
    /// What to log.
    pub log: LogConfig,
    /// Which builds may run.
    pub release: ReleaseConfig,
}

/// The configuration cannot be used. Every problem is listed, not only the first.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", .0.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n"))]
pub struct InvalidConfig(pub Vec<Problem>);

impl ServiceConfig {
    /// Reads everything; also tells where each value came from.
    ///
    /// # Errors
    /// [`InvalidConfig`] lists every value that is missing or wrong.
    pub fn read(settings: Settings) -> Result<(Self, Vec<Setting>), InvalidConfig> {
        let mut reader = ConfigReader::new(settings);
        let tls = TlsConfig::read(&mut reader);
        let access = AccessConfig::read(&mut reader);
        let listen = ListenConfig::read(&mut reader, tls.as_ref(), access.as_ref());
        let database = DatabaseConfig::read(&mut reader);
        let keys = KeysConfig::read(&mut reader);
        let memory = cache::read(&mut reader);
        let sessions = SessionsConfig::read(&mut reader);
        let usage = UsageConfig::read(&mut reader);
        let audit = AuditConfig::read(&mut reader);
        let ops = OpsConfig::read(&mut reader);
        let telemetry = TelemetryConfig::read(&mut reader);
        let log = LogConfig::read(&mut reader);
        let release = ReleaseConfig::read(&mut reader);
        let read = reader.finish().map_err(InvalidConfig)?;
        match (
            listen, tls, access, database, keys, memory, sessions, usage, audit, ops, telemetry, log, release,
        ) {
            (
                Some(listen),
                Some(tls),
                Some(access),
                Some(database),
                Some(keys),
                Some(memory),
                Some(sessions),
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
                    database,
                    keys,
                    cache: memory,
                    sessions,
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
