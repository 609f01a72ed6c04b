//! Front doors: proxies and other HTTP software that ask about requests of customers.

use std::{fs, net::SocketAddr, path::PathBuf};

use super::{
    listen::ListenConfig,
    parse::{self, parse_bool},
    reader::ConfigReader,
};
use crate::{
    domain::{key_headers::KeyHeaders, network::TrustedProxies, principal_token::MAX_ISSUER_LEN},
    forward::{check::UndecidedAs, principal::SigningKeys},
};

/// Front doors: proxies and other HTTP software that ask about requests of customers.
#[derive(Debug)]
pub struct FrontDoorsConfig {
    /// `TENANT_AUTH_FORWARD_LISTEN`: address or host name, and port, of `/forward-auth`, `/oauth2/introspect` and
    /// `/.well-known/jwks.json` over HTTP/1.1, with TLS if the gRPC address has it. Default `off`. Beyond loopback the rules
    /// for `TENANT_AUTH_LISTEN` apply. Envoy's external authorization needs no address: it uses gRPC.
    pub listen: Option<SocketAddr>,
    /// `TENANT_AUTH_FORWARD_TRUSTED_PEERS`: networks of the proxies, separated by commas, whose `X-Forwarded-For` and
    /// `X-Forwarded-Method` are trusted. At most 32. Default `127.0.0.0/8,::1/128`.
    pub trusted_peers: TrustedProxies,
    /// `TENANT_AUTH_KEY_HEADERS`: the headers, separated by commas, in which customers send their keys to a proxy. At most 8.
    /// `authorization` contains `Bearer` and the key, others only the key. Default `authorization,x-api-key`.
    pub key_headers: KeyHeaders,
    /// `TENANT_AUTH_ENVOY_ERROR_RESPONSE`: whether Envoy gets undecided requests as `error_response`, which it counts as errors
    /// and not as denials. Set it to `true` only if every Envoy knows this field, because others answer 403. Default `false`:
    /// as `denied_response` with status 503.
    pub undecided_as: UndecidedAs,
    /// `TENANT_AUTH_PRINCIPAL_KEYS_FILE`: a PEM file with private keys (PKCS#8, Ed25519 or P-256). The first one signs
    /// principal tokens, and all are published. It is reloaded when it changes. Default none: no tokens.
    /// `TENANT_AUTH_PRINCIPAL_ISSUER`: the issuer of the tokens, such as `https://auth.example.com`. At most 80 characters.
    /// Default none; must be set with the file.
    pub principal: Option<PrincipalConfig>,
}

/// How principal tokens are signed.
#[derive(Debug)]
pub struct PrincipalConfig {
    /// The file with the keys.
    pub keys_file: PathBuf,
    /// Its content.
    pub keys: SigningKeys,
    /// The issuer.
    pub issuer: String,
}

const LISTEN: &str = "TENANT_AUTH_FORWARD_LISTEN";
const KEYS_FILE: &str = "TENANT_AUTH_PRINCIPAL_KEYS_FILE";
const ISSUER: &str = "TENANT_AUTH_PRINCIPAL_ISSUER";

impl FrontDoorsConfig {
    pub(super) fn read(reader: &mut ConfigReader, grpc: Option<&ListenConfig>) -> Option<Self> {
        let listen = reader.value(LISTEN, "off", parse::parse_optional_address);
        let trusted_peers =
            reader.value("TENANT_AUTH_FORWARD_TRUSTED_PEERS", "127.0.0.0/8,::1/128", parse_networks);
        let key_headers =
            reader.value("TENANT_AUTH_KEY_HEADERS", "authorization,x-api-key", KeyHeaders::parse);
        let error_response = reader.value("TENANT_AUTH_ENVOY_ERROR_RESPONSE", "false", parse_bool);
        let file = reader.optional(KEYS_FILE, |path| {
            let path = PathBuf::from(path);
            read_signing_keys(&path).map(|keys| (path, keys))
        });
        let issuer = reader.optional(ISSUER, parse_issuer);
        let principal = match (file?, issuer?) {
            (Some((keys_file, keys)), Some(issuer)) => Some(PrincipalConfig { keys_file, keys, issuer }),
            (None, None) => None,
            (Some(_), None) => {
                reader.report_problem(ISSUER, "must be set: verifiers of principal tokens compare it");
                return None;
            }
            (None, Some(_)) => {
                reader.report_problem(KEYS_FILE, "must be set: the issuer signs nothing without keys");
                return None;
            }
        };
        let listen = listen?;
        // Without a gRPC address, its problem is reported already.
        if let (Some(address), Some(grpc)) = (listen, grpc) {
            grpc.exposure.check(reader, LISTEN, address)?;
        }
        let undecided_as = match error_response? {
            true => UndecidedAs::ErrorResponse,
            false => UndecidedAs::DeniedResponse,
        };
        Some(Self {
            listen,
            trusted_peers: trusted_peers?,
            key_headers: key_headers?,
            undecided_as,
            principal,
        })
    }
}

/// Reads the keys that sign principal tokens.
///
/// # Errors
/// The error names the file, and never contains a key.
pub fn read_signing_keys(path: &std::path::Path) -> Result<SigningKeys, String> {
    let pem = fs::read(path).map(zeroize::Zeroizing::new);
    let pem = pem.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    SigningKeys::parse(&pem).map_err(|error| format!("the file {} {error}", path.display()))
}

fn parse_networks(text: &str) -> Result<TrustedProxies, String> {
    let networks: Vec<_> = text.split(',').map(str::trim).collect();
    TrustedProxies::parse(&networks).map_err(|(index, error)| {
        let network = networks.get(index).copied().unwrap_or_default();
        format!("the network {network:?} {error}")
    })
}

fn parse_issuer(text: &str) -> Result<String, String> {
    if text.len() <= MAX_ISSUER_LEN && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must have at most {MAX_ISSUER_LEN} printable ASCII characters without spaces, not {text:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ServiceConfig, Settings};

    fn read(settings: &[(&str, &str)]) -> Result<FrontDoorsConfig, Vec<String>> {
        let base =
            Settings::default().with_flag("TENANT_AUTH_DATABASE_URL", Some("http://127.0.0.1:1".to_owned()));
        let settings = settings
            .iter()
            .fold(base, |all, (variable, value)| all.with_flag(variable, Some((*value).to_owned())));
        let read = ServiceConfig::read(settings).map(|(config, _)| config.front_doors);
        read.map_err(|error| error.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn front_doors_are_off_by_default() {
        let config = read(&[]).unwrap();
        assert_eq!((config.listen, config.principal.is_none()), (None, true));
        assert_eq!(config.undecided_as, UndecidedAs::DeniedResponse);
        assert!(config.trusted_peers.trusts("127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()));
    }

    #[test]
    fn exposed_forward_address_needs_tls_and_callers() {
        assert!(read(&[("TENANT_AUTH_FORWARD_LISTEN", "127.0.0.1:0")]).is_ok());
        let problems = read(&[("TENANT_AUTH_FORWARD_LISTEN", "0.0.0.0:50053")]).unwrap_err();
        assert_eq!(problems.len(), 1);
        let problem = "TENANT_AUTH_FORWARD_LISTEN: 0.0.0.0:50053 is beyond loopback, without encryption";
        assert!(problems[0].starts_with(problem), "{problems:?}");
        let allowed = [
            ("TENANT_AUTH_FORWARD_LISTEN", "0.0.0.0:50053"),
            ("TENANT_AUTH_ALLOW_PLAINTEXT", "true"),
            ("TENANT_AUTH_ALLOW_ANONYMOUS", "true"),
        ];
        assert!(read(&allowed).is_ok());
    }

    #[test]
    fn invalid_front_door_settings_name_their_variable() {
        let keys = tempfile::NamedTempFile::new().unwrap();
        let path = keys.path().display().to_string();
        for (variable, value, problem) in [
            ("TENANT_AUTH_FORWARD_LISTEN", "50053", "use off for none"),
            ("TENANT_AUTH_FORWARD_TRUSTED_PEERS", "10.0.0.0/8, 10.0.0.1/8", "\"10.0.0.1/8\" has bits set"),
            ("TENANT_AUTH_KEY_HEADERS", "X-Api-Key", "lower case"),
            ("TENANT_AUTH_ENVOY_ERROR_RESPONSE", "yes", "true or false"),
            ("TENANT_AUTH_PRINCIPAL_KEYS_FILE", &path, "must contain 1 to 8 private keys"),
            ("TENANT_AUTH_PRINCIPAL_KEYS_FILE", "/no/such/file", "cannot read /no/such/file"),
            ("TENANT_AUTH_PRINCIPAL_ISSUER", "two words", "printable ASCII"),
            ("TENANT_AUTH_PRINCIPAL_ISSUER", "https://auth.example.com", "KEYS_FILE: must be set"),
        ] {
            let problems = read(&[(variable, value)]).unwrap_err();
            assert!(problems.iter().any(|found| found.contains(problem)), "{problems:?}");
        }
    }
}
