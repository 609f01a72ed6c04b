//! Leaked keys.

use super::{parse::parse_duration, reader::ConfigReader};
use crate::domain::leak::LeakPolicy;

/// What happens to keys that are reported as leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaksConfig {
    /// `TENANT_AUTH_LEAK_POLICY`: what happens to a leaked key of a tenant without a policy of its own: `disable`,
    /// `notify` (it stays valid), or `expire:` and a time, such as `expire:24h` (1 min to 30 days). Default `disable`.
    pub default_policy: LeakPolicy,
}

impl LeaksConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let default_policy = reader.value("TENANT_AUTH_LEAK_POLICY", "disable", parse_policy);
        Some(Self { default_policy: default_policy? })
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
    fn leak_policy_is_parsed_with_its_time() {
        assert_eq!(parse_policy("disable"), Ok(LeakPolicy::Disable));
        assert_eq!(parse_policy("notify"), Ok(LeakPolicy::Notify));
        assert_eq!(parse_policy("expire:24h"), Ok(LeakPolicy::ExpireIn(Duration::from_secs(86_400))));
        for invalid in ["", "revoke", "expire", "expire:", "expire:5s", "expire:31d"] {
            assert!(parse_policy(invalid).is_err(), "{invalid}");
        }
    }
}
