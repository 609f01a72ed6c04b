//! Database location, timeouts and schema handling.

mod read_replica;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use url::Url;

pub use self::read_replica::ReadReplicaConfig;
use super::{
    parse::{parse_bool, parse_duration, parse_number},
    reader::{ConfigReader, SSL_CERT_DIR, SSL_CERT_FILE},
};
use crate::{
    database::{client::bulkhead::LaneLimits, hrana::TokenFile},
    domain::store::LaneTimeouts,
    transport::tls::{FirstToExpire, first_private_root_to_expire},
};

/// Database location, timeouts and schema handling.
#[derive(Debug)]
pub struct DatabaseConfig {
    /// `TENANT_AUTH_DATABASE_URL` and `TENANT_AUTH_DATABASE_TOKEN_FILE`. No default. `TENANT_AUTH_DATABASE_PROXY`:
    /// the `http://` proxy to the database. Default none; `HTTP_PROXY` and similar variables are ignored.
    pub location: DatabaseLocation,
    /// A read replica with a URL of its own. It needs the change feed, and the heartbeat.
    pub read_replica: Option<ReadReplicaConfig>,
    /// `TENANT_AUTH_DATABASE_CONNECT_TIMEOUT`: timeout of a new connection. Default `500ms`.
    pub connect_timeout: Duration,
    /// `TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT` (default `300ms`): timeout of the first attempt of a validation's read.
    /// `TENANT_AUTH_DATABASE_TIMEOUT` (default `800ms`): timeout of all attempts together.
    pub timeouts: LaneTimeouts,
    /// `TENANT_AUTH_DATABASE_WRITE_TIMEOUT`: how long a replica waits for a write that it has sent, even if the
    /// caller has disconnected. One write is in flight at a time, and the next one starts after it. Default `10s`:
    /// longer than the 5 s after which sqld aborts a transaction itself.
    pub write_timeout: Duration,
    /// `TENANT_AUTH_DATABASE_MAX_IN_FLIGHT`: maximum number of concurrent reads, divided among the lanes. Default
    /// `64`.
    pub max_in_flight: usize,
    /// `TENANT_AUTH_CREATE_SCHEMA`: whether `serve` creates the schema in an empty database. Default `false`, so that
    /// a database that is empty by mistake is not taken for one without keys. `tenant-auth-svc migrate` always
    /// creates it.
    pub create_schema: bool,
    /// `TENANT_AUTH_HEARTBEAT_INTERVAL`: how often one of the replicas updates the heartbeat row, so that all
    /// replicas notice when the read replica of the database is stalled. Default `1s`; `off` when the URL is that of
    /// the primary itself, or the database is embedded.
    pub heartbeat_interval: Option<Duration>,
    /// `TENANT_AUTH_MIGRATE`: whether `serve` migrates the schema. Default `true`; with `false` it waits until
    /// another process has migrated it.
    pub migrate: bool,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`: the roots that the HTTP client trusts for the database's certificate. The
    /// client reads them itself. Default: the system's roots. This field holds the first private root to expire.
    pub private_roots: Option<FirstToExpire>,
}

/// Location of the database.
#[derive(Debug)]
pub enum DatabaseLocation {
    /// A local file: `file:PATH`.
    Embedded(PathBuf),
    /// A remote server: `libsql://`, `https://` or `http://`.
    Remote {
        /// URL of the server.
        url: Url,
        /// Its token; `None` for a server without authentication.
        token_file: Option<Arc<TokenFile>>,
        /// The proxy to the server: `TENANT_AUTH_DATABASE_PROXY`.
        proxy: Option<Box<Url>>,
    },
}

impl DatabaseConfig {
    /// Returns the token files: that of the URL, and then that of the read replica's.
    pub(crate) fn tokens(&self) -> Vec<Arc<TokenFile>> {
        let token = match &self.location {
            DatabaseLocation::Remote { token_file, .. } => token_file.clone(),
            DatabaseLocation::Embedded(_) => None,
        };
        let of_read_replica = self.read_replica.as_ref().and_then(|replica| replica.token_file.clone());
        token.into_iter().chain(of_read_replica).collect()
    }
}

const URL: &str = "TENANT_AUTH_DATABASE_URL";
const TOKEN_FILE: &str = "TENANT_AUTH_DATABASE_TOKEN_FILE";
const PROXY: &str = "TENANT_AUTH_DATABASE_PROXY";
const HEARTBEAT_INTERVAL: &str = "TENANT_AUTH_HEARTBEAT_INTERVAL";
const URL_HINT: &str =
    "libsql://… or https://… for Turso, http://… for sqld on a local network, file:PATH for a local file";

impl DatabaseConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let address = reader.required(URL, URL_HINT, parse_database_address);
        let mut token_path = None;
        let token = reader.optional(TOKEN_FILE, |path| {
            token_path = Some(PathBuf::from(path));
            TokenFile::open(Path::new(path)).map(Arc::new)
        });
        let proxy = reader.optional(PROXY, parse_proxy);
        let connect = reader.value("TENANT_AUTH_DATABASE_CONNECT_TIMEOUT", "500ms", parse_timeout);
        let attempt = reader.value("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "300ms", parse_timeout);
        let total = reader.value("TENANT_AUTH_DATABASE_TIMEOUT", "800ms", parse_timeout);
        let write = reader.value("TENANT_AUTH_DATABASE_WRITE_TIMEOUT", "10s", parse_timeout);
        let min = LaneLimits::MIN_TOTAL as u64;
        let in_flight = reader.value("TENANT_AUTH_DATABASE_MAX_IN_FLIGHT", "64", parse_number(min..=4_096));
        let migrate = reader.value("TENANT_AUTH_MIGRATE", "true", parse_bool);
        let create_schema = reader.value("TENANT_AUTH_CREATE_SCHEMA", "false", parse_bool);
        let heartbeat = reader.value(HEARTBEAT_INTERVAL, "1s", parse_heartbeat_interval);

        // The HTTP client validates them itself.
        let roots = reader.optional(SSL_CERT_FILE, |path| Ok::<_, String>(PathBuf::from(path)))?;
        let folders = reader.optional(SSL_CERT_DIR, |paths| {
            Ok::<_, String>(std::env::split_paths(paths).collect::<Vec<_>>())
        })?;
        let location = resolve_location(reader, address, token, proxy);
        let (attempt, total) = (attempt?, total?);
        if attempt > total {
            reader.report_problem(
                "TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT",
                "must not be longer than TENANT_AUTH_DATABASE_TIMEOUT",
            );
        }
        let read_replica = ReadReplicaConfig::read(reader, location.as_ref(), token_path.as_deref());
        let (location, read_replica) = (location?, read_replica?);
        if read_replica.is_some() && heartbeat == Some(None) {
            reader.report_problem(
                HEARTBEAT_INTERVAL,
                "must not be off with TENANT_AUTH_DATABASE_READ_URL: without it, a read replica that stands still looks \
                 like a database in which nothing changes",
            );
        }
        // An embedded database has no read replica.
        let heartbeat = heartbeat?.filter(|_| matches!(location, DatabaseLocation::Remote { .. }));
        let is_encrypted = matches!(&location, DatabaseLocation::Remote { url, .. } if url.scheme() == "https")
            || read_replica.as_ref().is_some_and(|replica| replica.url.scheme() == "https");
        let roots = || first_private_root_to_expire(roots.as_deref(), &folders.unwrap_or_default());
        Some(Self {
            private_roots: is_encrypted.then(roots).flatten(),
            location,
            read_replica,
            create_schema: create_schema?,
            heartbeat_interval: heartbeat,
            connect_timeout: connect?,
            timeouts: LaneTimeouts { attempt, total },
            write_timeout: write?,
            max_in_flight: usize::try_from(in_flight?).ok()?,
            migrate: migrate?,
        })
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from 1ms to 60s, not {text:?}"))
    }
}

fn parse_heartbeat_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&time) {
        Ok(Some(time))
    } else {
        Err(format!("must be from 1s to 60s, or off, not {text:?}"))
    }
}

enum DatabaseAddress {
    File(PathBuf),
    Http(Url),
}

fn parse_database_address(text: &str) -> Result<DatabaseAddress, String> {
    if let Some(path) = text.strip_prefix("file:") {
        // `file:///a`, `file:/a` and `file:a` are all in use.
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() || path.contains('?') {
            Err("must be file:PATH, without a question mark or options".to_owned())
        } else {
            Ok(DatabaseAddress::File(path.into()))
        };
    }
    parse_remote_url(text, URL_HINT).map(DatabaseAddress::Http)
}

/// Parses the URL of a server. `hint` names the forms that are accepted.
fn parse_remote_url(text: &str, hint: &str) -> Result<Url, String> {
    let message = || format!("must be {hint}");
    let mut url = Url::parse(text).map_err(|_| message())?;
    if !url.username().is_empty() || url.password().is_some() || text.contains("authToken") {
        // The value is left out of the message because it may be a secret.
        return Err(format!(
            "must not contain credentials: put the token into a file and set {TOKEN_FILE} to its path"
        ));
    }
    let plain = url.query_pairs().any(|(name, value)| name == "tls" && value == "0");
    let scheme = match (url.scheme(), plain) {
        ("libsql", false) => "https",
        ("libsql", true) => "http",
        ("https", false) => "https",
        ("http", _) => "http",
        _ => return Err(message()),
    };
    // The url crate refuses to change an unknown scheme into a known one.
    let rest = url.as_str().split_once(':').map_or("", |(_, rest)| rest).to_owned();
    url = Url::parse(&format!("{scheme}:{rest}")).map_err(|_| message())?;
    url.set_query(None);
    url.set_fragment(None);
    if url.host_str().is_none_or(str::is_empty) {
        return Err(message());
    }
    Ok(url)
}

/// Parses the address of a proxy. Credentials are not supported: they would be visible in the environment.
fn parse_proxy(text: &str) -> Result<Url, String> {
    let message = "must be http://HOST:PORT, without credentials or a path";
    let url = Url::parse(text).map_err(|_| message.to_owned())?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if url.scheme() == "http" && is_bare && url.host_str().is_some_and(|host| !host.is_empty()) {
        Ok(url)
    } else {
        Err(message.to_owned())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn resolve_location(
    reader: &mut ConfigReader,
    address: Option<DatabaseAddress>,
    token: Option<Option<Arc<TokenFile>>>,
    proxy: Option<Option<Url>>,
) -> Option<DatabaseLocation> {
    let url_name = reader.given_name(URL);
    match (address?, token?, proxy?) {
        (DatabaseAddress::File(_), Some(_), _) => {
            reader.report_problem(
                TOKEN_FILE,
                format!("not supported with a local file in {url_name}; remove it"),
            );
            None
        }
        (DatabaseAddress::File(_), None, Some(_)) => {
            reader.report_problem(PROXY, format!("not supported with a local file in {url_name}; remove it"));
            None
        }
        (DatabaseAddress::File(path), None, None) => Some(DatabaseLocation::Embedded(path)),
        (DatabaseAddress::Http(url), None, _) if url.scheme() == "https" => {
            reader.report_problem(
                TOKEN_FILE,
                format!("must be set: {url_name} is {url}, and a remote database needs a token"),
            );
            None
        }
        // Through a TLS tunnel a proxy forwards what it cannot read. Without TLS it sees the token, so only a proxy
        // in the same pod or host is allowed.
        (DatabaseAddress::Http(url), Some(_), Some(proxy))
            if url.scheme() == "http" && !is_loopback(&proxy) =>
        {
            reader.report_problem(
                PROXY,
                format!("this proxy would see the database token, because {url_name} is {url}, without TLS; use https://, or a proxy on loopback"),
            );
            None
        }
        (DatabaseAddress::Http(url), token, proxy) => {
            Some(DatabaseLocation::Remote { url, token_file: token, proxy: proxy.map(Box::new) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> String {
        match parse_database_address(text) {
            Ok(DatabaseAddress::Http(url)) => url.to_string(),
            Ok(DatabaseAddress::File(path)) => format!("file {}", path.display()),
            Err(error) => format!("error {error}"),
        }
    }

    #[test]
    fn supported_database_urls_are_accepted() {
        assert_eq!(http("libsql://db-acme.turso.io"), "https://db-acme.turso.io/");
        assert_eq!(http("libsql://localhost:8080?tls=0"), "http://localhost:8080/");
        assert_eq!(http("https://db.example/base/"), "https://db.example/base/");
        assert_eq!(http("http://127.0.0.1:8080"), "http://127.0.0.1:8080/");
        assert_eq!(http("file:auth.db"), "file auth.db");
        assert_eq!(http("file:///var/lib/auth.db"), "file /var/lib/auth.db");
    }

    #[test]
    fn invalid_database_url_is_refused_without_showing_secrets() {
        for bad in ["", "turso.io", "postgres://x", "wss://x", "file:", "https://", "libsql:"] {
            assert!(http(bad).starts_with("error must"), "{bad}: {}", http(bad));
        }
        for secret in ["libsql://x?authToken=hush", "https://user:hush@x"] {
            let error = http(secret);
            assert!(error.contains(TOKEN_FILE) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn proxy_is_a_plain_http_address() {
        for good in ["http://proxy:3128", "http://10.0.0.1:3128/", "http://[::1]:8080"] {
            assert!(parse_proxy(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "proxy:3128",
            "https://proxy:1",
            "socks5://proxy:1",
            "http://user:hush@proxy:1",
            "http://proxy/path",
        ] {
            let error = parse_proxy(bad).unwrap_err();
            assert!(
                error.starts_with("must be http://HOST:PORT") && !error.contains("hush"),
                "{bad}: {error}"
            );
        }
    }
}
