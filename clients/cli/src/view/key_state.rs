//! The view of a key without its plaintext.

use serde::Serialize;
use tenant_auth_client::proto::{self, Verdict};

use super::{KeyView, TenantView, to_moment, to_text};
use crate::{
    output::{self, View},
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct KeyStateView {
    verdict: String,
    /// Why a validation is denied; absent if it is not.
    denied_because: Option<String>,
    on_deny_list: bool,
    decided_at: Option<Moment>,
    key: KeyView,
    tenant: Option<TenantView>,
}

/// Returns the name of a verdict, without its prefix.
pub(super) fn verdict_name(verdict: Verdict) -> String {
    verdict.as_str_name().trim_start_matches("VERDICT_").to_owned()
}

impl KeyStateView {
    pub(crate) fn new(state: proto::GetKeyResponse) -> Self {
        let (verdict, on_deny_list) = (state.verdict(), state.on_deny_list);
        let decided_at = to_moment(state.decided_at);
        let key = KeyView::new(state.key.unwrap_or_default());
        let tenant = state.tenant.map(TenantView::new);
        let denied_because = denial_reason(verdict, on_deny_list, &key, tenant.as_ref());
        Self { verdict: verdict_name(verdict), denied_because, on_deny_list, decided_at, key, tenant }
    }
}

impl KeyStateView {
    /// Returns the verdict.
    pub(super) fn verdict(&self) -> &str {
        &self.verdict
    }

    /// Returns the id of the tenant.
    pub(super) fn tenant_id(&self) -> &str {
        self.key.tenant_id()
    }
}

fn denial_reason(
    verdict: Verdict,
    on_deny_list: bool,
    key: &KeyView,
    tenant: Option<&TenantView>,
) -> Option<String> {
    let suffix = |reason: Option<&String>| reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Some(match verdict {
        Verdict::Valid => return None,
        Verdict::Revoked if key.revoked_at.is_some() => {
            format!("revoked at {}{}", to_text(key.revoked_at), suffix(key.revoke_reason.as_ref()))
        }
        Verdict::Expired => format!("expired at {}", to_text(key.expires_at)),
        Verdict::Disabled => format!("disabled at {}", to_text(key.disabled_at)),
        Verdict::TenantSuspended if tenant.is_some_and(TenantView::is_suspended) => {
            let reason = tenant.and_then(|tenant| tenant.suspend_reason.as_ref());
            format!("the tenant is suspended{}", suffix(reason))
        }
        _ if on_deny_list => {
            "the deny list of the answering replica contains the key or its tenant".to_owned()
        }
        Verdict::Unknown => "its tenant was deleted from the database".to_owned(),
        verdict => format!("unknown verdict {}: update tenantctl", verdict_name(verdict)),
    })
}

impl View for KeyStateView {
    fn text(&self) -> String {
        let mut rows = self.key.rows();
        let tenant = |of: fn(&TenantView) -> String| self.tenant.as_ref().map_or_else(String::new, of);
        rows.extend([
            ("pepper", to_text(self.key.pepper_id.as_ref())),
            ("tenant name", tenant(|tenant| tenant.name.clone())),
            ("tenant status", tenant(|tenant| tenant.status.to_owned())),
            ("deny list", if self.on_deny_list { "contains it".to_owned() } else { String::new() }),
            ("verdict now", self.verdict.clone()),
            ("denied because", to_text(self.denied_because.as_ref())),
        ]);
        output::details(&rows)
    }

    fn note(&self) -> Option<&'static str> {
        Some("read from the database; `tenantctl key check` shows what each replica has cached")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn because(verdict: Verdict, change: impl FnOnce(&mut proto::GetKeyResponse)) -> Option<String> {
        let mut state = proto::GetKeyResponse {
            key: Some(proto::ApiKey::default()),
            tenant: Some(proto::Tenant::default()),
            ..Default::default()
        };
        state.set_verdict(verdict);
        change(&mut state);
        KeyStateView::new(state).denied_because
    }

    fn key(state: &mut proto::GetKeyResponse) -> &mut proto::ApiKey {
        state.key.as_mut().unwrap()
    }

    #[test]
    fn denial_reason_names_its_cause() {
        let start = Some(prost_types::Timestamp::default());
        assert_eq!(because(Verdict::Valid, |_| {}), None);
        let revoked = because(Verdict::Revoked, |state| {
            key(state).revoked_at = start;
            key(state).revoke_reason = "leaked".to_owned();
        });
        assert_eq!(revoked.unwrap(), "revoked at 1970-01-01T00:00:00Z: leaked");
        let expired = because(Verdict::Expired, |state| key(state).expires_at = start);
        assert_eq!(expired.unwrap(), "expired at 1970-01-01T00:00:00Z");
        let suspended = because(Verdict::TenantSuspended, |state| {
            let tenant = state.tenant.as_mut().unwrap();
            tenant.set_status(proto::TenantStatus::Suspended);
            tenant.suspend_reason = "unpaid".to_owned();
        });
        assert_eq!(suspended.unwrap(), "the tenant is suspended: unpaid");
        for verdict in [Verdict::Revoked, Verdict::TenantSuspended] {
            let listed = because(verdict, |state| state.on_deny_list = true);
            assert!(listed.unwrap().starts_with("the deny list"));
        }
        assert!(because(Verdict::Unknown, |state| state.tenant = None).unwrap().contains("deleted"));
    }
}
