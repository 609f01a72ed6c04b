//! Leaked keys.

use std::{fmt, path::PathBuf};

use url::Url;

use super::{parse::parse_duration, reader::ConfigReader};
use crate::domain::leak::LeakPolicy;

/// What happens to keys that are reported as leaked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaksConfig {
    /// `TENANT_AUTH_LEAK_POLICY`: what happens to a leaked key of a tenant without a policy of its own: `disable`,
    /// `notify` (it stays valid), or `expire:` and a time, such as `expire:24h` (1 min to 30 days). Default `disable`.
    pub default_policy: LeakPolicy,
    /// `TENANT_AUTH_SECRET_SCANNING_KEYS`: a file, or an `https://` URL, with the public keys of GitHub's secret scanning
    /// partner programme. If set, the ops address accepts findings at `POST /github/secret-scanning`: forward only this
    /// path from outside. Default none: not accepted.
    pub signing_keys: Option<SigningKeysLocation>,
}

/// Where the public keys of a secret scanning partner are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKeysLocation {
    /// A file.
    File(PathBuf),
    /// A document on the web.
    Url(Url),
}

impl fmt::Display for SigningKeysLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl LeaksConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let default_policy = reader.value("TENANT_AUTH_LEAK_POLICY", "disable", parse_policy);
        let signing_keys = reader.optional("TENANT_AUTH_SECRET_SCANNING_KEYS", parse_location);
        Some(Self { default_policy: default_policy?, signing_keys: signing_keys? })
    }
}

/// Accepts `http://` for loopback addresses only: whoever can change the keys can disable keys of customers.
fn parse_location(text: &str) -> Result<SigningKeysLocation, String> {
    if !text.contains("://") {
        return Ok(SigningKeysLocation::File(text.into()));
    }
    let invalid = || format!("must be a file or an https:// URL, not {text:?}");
    // Not with the text: it may contain a password.
    if text.contains('@') {
        return Err("must be a URL without user and password".to_owned());
    }
    let url = Url::parse(text).map_err(|_| invalid())?;
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(SigningKeysLocation::Url(url)),
        "http" if is_loopback => Ok(SigningKeysLocation::Url(url)),
        _ => Err(invalid()),
    }
}

fn parse_policy(text: &str) -> Result<LeakPolicy, String> {
    match text {
        "disable" => Ok(LeakPolicy::Disable),
        "notify" => Ok(LeakPolicy::Notify),
        _ => {
            let delay = text.strip_prefix("expire:").ok_or_else(|| {
                format!("must be disable, notify or expire: and a time such as expire:24h, not {text:?}")
            })?;
            LeakPolicy::expire_in(parse_duration(delay)?).map_err(|error| format!("the time {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn signing_keys_come_from_a_file_or_a_secure_url() {
        let path = "/etc/tenant-auth/github-keys.json";
        assert_eq!(parse_location(path), Ok(SigningKeysLocation::File(path.into())));
        for url in ["https://api.example.com/keys", "http://127.0.0.1:8080/keys", "http://[::1]/keys"] {
            assert_eq!(parse_location(url).unwrap().to_string(), url);
        }
        for invalid in ["http://api.example.com/keys", "file:///etc/keys", "https://"] {
            assert!(parse_location(invalid).is_err(), "{invalid}");
        }
        let with_password = parse_location("https://user:secret@api.example.com/keys").unwrap_err();
        assert!(with_password.contains("without user") && !with_password.contains("secret"));
    }

    #[test]
    fn leak_policy_is_parsed_with_its_time() {
        assert_eq!(parse_policy("disable"), Ok(LeakPolicy::Disable));
        assert_eq!(parse_policy("notify"), Ok(LeakPolicy::Notify));
        assert_eq!(parse_policy("expire:24h"), Ok(LeakPolicy::ExpireIn(Duration::from_secs(86_400))));
        for invalid in ["", "revoke", "expire", "expire:", "expire:5s", "expire:31d"] {
            assert!(parse_policy(invalid).is_err(), "{invalid}");
        }
    }
}
