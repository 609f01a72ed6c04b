//! Messages about leaked keys.

use tenant_auth_proto::v1;

use super::{
    admin::api_key_message,
    fields::FieldValidator,
    time::{duration, parse_duration},
};
use crate::{
    domain::{
        key::{KeyHash, PresentedKey},
        leak::{LeakOutcome, LeakPolicy, LeakReport},
        store::Committed,
        text::{LeakLocation, LeakSource, LeakType},
    },
    grpc::error::ApiError,
};

/// Parses a report. `hash` returns the hash of a text that may be a key; the report is `None` if it cannot be one.
pub(in crate::grpc) fn parse_report_leak(
    request: v1::ReportLeakRequest,
    hash: impl Fn(&PresentedKey) -> Option<KeyHash>,
) -> Result<Option<LeakReport>, ApiError> {
    let mut fields = FieldValidator::new();
    // The key is moved into its self-wiping type before any check can fail.
    let plaintext = PresentedKey::new(request.plaintext);
    let has_plaintext = !plaintext.expose().is_empty();
    let hash = match (has_plaintext, &*request.sha256) {
        (true, []) => Some(hash(&plaintext)),
        (true, _) => {
            fields.add_violation("sha256", "must not be set together with plaintext");
            None
        }
        (false, []) => {
            fields.add_violation("sha256", "must be set if plaintext is not");
            None
        }
        (false, digest) => {
            let digest = <[u8; 32]>::try_from(digest);
            let digest = digest.map_err(|_| format!("must be 32 bytes, not {}", request.sha256.len()));
            fields.check("sha256", digest).map(|digest| Some(KeyHash::from_bytes(digest)))
        }
    };
    let is_key = has_plaintext && hash.flatten().is_some();
    for (field, text) in
        [("source", &request.source), ("location", &request.location), ("type", &request.r#type)]
    {
        if is_key && text.contains(plaintext.expose()) {
            fields.add_violation(field, "must not contain the key");
        }
    }
    let source = fields.check("source", LeakSource::parse(&request.source));
    let location = fields.check("location", LeakLocation::parse(&request.location));
    let kind = fields.check("type", LeakType::parse(&request.r#type));
    match (hash, source, location, kind) {
        (Some(hash), Some(source), Some(location), Some(kind)) if fields.is_valid() => {
            Ok(hash.map(|hash| LeakReport { hash, source, location, kind }))
        }
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn leak_response(
    Committed { outcome, revision }: Committed<Option<LeakOutcome>>,
) -> v1::ReportLeakResponse {
    let Some(LeakOutcome { policy, already_reported, key }) = outcome else {
        return v1::ReportLeakResponse::default();
    };
    v1::ReportLeakResponse {
        known: true,
        already_reported,
        action: leak_action(policy).into(),
        key: Some(api_key_message(key)),
        revision: revision.0,
    }
}

fn leak_action(policy: LeakPolicy) -> v1::LeakAction {
    match policy {
        LeakPolicy::Disable => v1::LeakAction::Disable,
        LeakPolicy::Notify => v1::LeakAction::Notify,
        LeakPolicy::ExpireIn(_) => v1::LeakAction::Expire,
    }
}

pub(super) fn leak_policy_message(policy: LeakPolicy) -> v1::LeakPolicy {
    let expire_in = match policy {
        LeakPolicy::ExpireIn(delay) => Some(duration(delay)),
        LeakPolicy::Disable | LeakPolicy::Notify => None,
    };
    v1::LeakPolicy { action: leak_action(policy).into(), expire_in }
}

/// Parses a policy: `Some(None)` for the default of the service.
pub(super) fn parse_leak_policy(
    fields: &mut FieldValidator,
    policy: Option<v1::LeakPolicy>,
) -> Option<Option<LeakPolicy>> {
    let Some(policy) = policy else { return Some(None) };
    let action = v1::LeakAction::try_from(policy.action);
    if policy.expire_in.is_some() && action != Ok(v1::LeakAction::Expire) {
        fields.add_violation("leak_policy.expire_in", "must be set only with LEAK_ACTION_EXPIRE");
        return None;
    }
    match (action, policy.expire_in) {
        (Ok(v1::LeakAction::Unspecified), _) => Some(None),
        (Ok(v1::LeakAction::Disable), _) => Some(Some(LeakPolicy::Disable)),
        (Ok(v1::LeakAction::Notify), _) => Some(Some(LeakPolicy::Notify)),
        (Ok(v1::LeakAction::Expire), Some(delay)) => {
            let delay = fields.check("leak_policy.expire_in", parse_duration(delay))?;
            fields.check("leak_policy.expire_in", LeakPolicy::expire_in(delay)).map(Some)
        }
        (Ok(v1::LeakAction::Expire), None) => {
            fields.add_violation("leak_policy.expire_in", "must be set with LEAK_ACTION_EXPIRE");
            None
        }
        (Err(_), _) => {
            fields.add_violation("leak_policy.action", format!("unknown value {}", policy.action));
            None
        }
    }
}
