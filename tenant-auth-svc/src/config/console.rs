//! The console: pages for operators in a browser.

use std::{net::SocketAddr, path::PathBuf};

use super::{listen::ListenConfig, parse, reader::ConfigReader};

/// The console: pages for operators in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// `TENANT_AUTH_CONSOLE_LISTEN`: address or host name, and port, of the console over HTTP/1.1, with TLS if the gRPC
    /// address has it. Default `off`. Beyond loopback the rules for `TENANT_AUTH_LISTEN` apply. With a callers file, people
    /// log in with the token of a caller that has the role `viewer` or `operator`.
    pub listen: Option<SocketAddr>,
    /// `TENANT_AUTH_CONSOLE_PEERS`: the replicas that the console shows, separated by commas: URLs such as
    /// `http://tenant-auth-headless:50051`. A host name stands for all its addresses. At most 32. Default none: only the
    /// replica of the console.
    pub peers: Vec<PeerUrl>,
    /// `TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE`: a file with the caller token that is sent to those replicas. Any role will do.
    /// Default none: for replicas without a callers file.
    pub peers_token_file: Option<PathBuf>,
}

/// The URL of a replica, or of several behind one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

const LISTEN: &str = "TENANT_AUTH_CONSOLE_LISTEN";
const PEERS: &str = "TENANT_AUTH_CONSOLE_PEERS";
const PEERS_TOKEN_FILE: &str = "TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE";
const MAX_PEERS: usize = 32;

impl ConsoleConfig {
    pub(super) fn read(reader: &mut ConfigReader, grpc: Option<&ListenConfig>) -> Option<Self> {
        let listen = reader.value(LISTEN, "off", parse::parse_optional_address);
        let peers = reader.optional(PEERS, parse_peers);
        let peers_token_file = reader.optional(PEERS_TOKEN_FILE, |path| {
            let path = PathBuf::from(path);
            match std::fs::metadata(&path) {
                Ok(_) => Ok(path),
                Err(error) => Err(format!("cannot read {}: {error}", path.display())),
            }
        });
        let listen = listen?;
        // Without a gRPC address, its problem is reported already.
        if let (Some(address), Some(grpc)) = (listen, grpc) {
            grpc.exposure.check(reader, LISTEN, address)?;
        }
        Some(Self { listen, peers: peers?.unwrap_or_default(), peers_token_file: peers_token_file? })
    }
}

fn parse_peers(text: &str) -> Result<Vec<PeerUrl>, String> {
    let peers = text.split(',').map(|peer| parse_peer(peer.trim())).collect::<Result<Vec<_>, _>>()?;
    if peers.len() > MAX_PEERS {
        return Err(format!("must have at most {MAX_PEERS} URLs, not {}", peers.len()));
    }
    Ok(peers)
}

fn parse_peer(text: &str) -> Result<PeerUrl, String> {
    let invalid = || format!("{text:?} must be a URL such as http://tenant-auth-headless:50051");
    let url = url::Url::parse(text).map_err(|_| invalid())?;
    let is_encrypted = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(invalid()),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_bare {
        return Err(format!("{text:?} must have only a scheme, a host and a port"));
    }
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(PeerUrl { is_encrypted, host, port: url.port_or_known_default().ok_or_else(invalid)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ServiceConfig, Settings};

    fn read(settings: &[(&str, &str)]) -> Result<ConsoleConfig, Vec<String>> {
        let base =
            Settings::default().with_flag("TENANT_AUTH_DATABASE_URL", Some("http://127.0.0.1:1".to_owned()));
        let settings = settings
            .iter()
            .fold(base, |all, (variable, value)| all.with_flag(variable, Some((*value).to_owned())));
        let read = ServiceConfig::read(settings).map(|(config, _)| config.console);
        read.map_err(|error| error.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn console_is_off_by_default() {
        let config = read(&[]).unwrap();
        assert_eq!(config, ConsoleConfig { listen: None, peers: Vec::new(), peers_token_file: None });
    }

    #[test]
    fn exposed_console_needs_tls_and_callers() {
        assert!(read(&[(LISTEN, "127.0.0.1:0")]).is_ok());
        let problems = read(&[(LISTEN, "0.0.0.0:50054")]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = "TENANT_AUTH_CONSOLE_LISTEN: 0.0.0.0:50054 is beyond loopback, without encryption";
        assert!(problems[0].starts_with(problem), "{problems:?}");
    }

    #[test]
    fn peers_are_urls_of_hosts() {
        let peers =
            read(&[(PEERS, "http://replicas:50051, https://10.0.0.7, http://[::1]:9")]).unwrap().peers;
        let shown: Vec<_> =
            peers.iter().map(|peer| (peer.is_encrypted, peer.host.as_str(), peer.port)).collect();
        assert_eq!(shown, [(false, "replicas", 50_051), (true, "10.0.0.7", 443), (false, "::1", 9)]);
        for invalid in ["replicas:50051", "ftp://replicas", "http://a/b", "http://u:p@a", "http://a,,"] {
            let problems = read(&[(PEERS, invalid)]).unwrap_err();
            assert!(problems[0].starts_with("TENANT_AUTH_CONSOLE_PEERS: "), "{problems:?}");
        }
        let problems = read(&[(PEERS_TOKEN_FILE, "/no/such/file")]).unwrap_err();
        assert!(problems[0].contains("cannot read /no/such/file"), "{problems:?}");
    }
}
