//! What happens to leaked keys

use tenant_auth_client::proto::{LeakAction, LeakPolicy};

use crate::time;

/// A policy to set; `None` for the default of the service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeakPolicyChange(pub(crate) Option<LeakPolicy>);

/// Parses `disable`, `notify`, `default`, or `expire:` and a time.
pub(crate) fn parse(text: &str) -> Result<LeakPolicyChange, String> {
    let policy = |action: LeakAction, expire_in| LeakPolicy { action: action.into(), expire_in };
    match text {
        "default" => Ok(LeakPolicyChange(None)),
        "disable" => Ok(LeakPolicyChange(Some(policy(LeakAction::Disable, None)))),
        "notify" => Ok(LeakPolicyChange(Some(policy(LeakAction::Notify, None)))),
        _ => {
            let delay = text.strip_prefix("expire:").ok_or_else(|| {
                "must be disable, notify, default, or expire: and a time such as expire:24h".to_owned()
            })?;
            let delay = time::parse_nonzero_span(delay)?;
            let delay =
                prost_types::Duration::try_from(delay).map_err(|_| "the time is too long".to_owned())?;
            Ok(LeakPolicyChange(Some(policy(LeakAction::Expire, Some(delay)))))
        }
    }
}

/// Formats a policy as [`parse`] reads it.
pub(crate) fn format(policy: Option<&LeakPolicy>) -> String {
    let Some(policy) = policy else { return "default".to_owned() };
    match policy.action() {
        LeakAction::Disable => "disable".to_owned(),
        LeakAction::Notify => "notify".to_owned(),
        LeakAction::Expire => {
            let delay = policy.expire_in.and_then(|delay| delay.try_into().ok()).unwrap_or_default();
            format!("expire:{}", time::format_coarse(delay))
        }
        LeakAction::Unspecified => "default".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_round_trips_through_text() {
        for text in ["default", "disable", "notify", "expire:12h"] {
            assert_eq!(format(parse(text).unwrap().0.as_ref()), text);
        }
        for text in ["", "revoke", "expire", "expire:", "expire:soon"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
