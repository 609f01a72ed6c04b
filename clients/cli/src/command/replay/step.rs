//! One change that a replay makes again.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tenant_auth_client::{AdminClient, Error, proto};

use super::{deletion::Deletion, states::FinalState};
use crate::view::ReplayView;

/// The values that updates set.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct UpdatedValues {
    pub(super) name: Option<String>,
    pub(super) plan: Option<String>,
    pub(super) scopes: Option<Vec<String>>,
    /// Unix milliseconds; `Some(None)` means never.
    #[serde(default, deserialize_with = "present")]
    pub(super) expires_at: Option<Option<i64>>,
    pub(super) enabled: Option<bool>,
    pub(super) allowed_networks: Option<Vec<String>>,
    /// As the database stores it; `Some(None)` means the default of the service.
    #[serde(default, deserialize_with = "present")]
    pub(super) leak_policy: Option<Option<String>>,
}

/// The detail of an update in the audit log.
#[derive(Debug, Deserialize)]
struct UpdateDetail {
    after: UpdatedValues,
}

/// Distinguishes a null from an absent field.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl UpdatedValues {
    /// Parses the detail of an audit log entry.
    pub(super) fn parse(detail: Option<&str>) -> Option<Self> {
        serde_json::from_str::<UpdateDetail>(detail?).ok().map(|detail| detail.after)
    }

    /// Adds a later update.
    pub(super) fn merge(&mut self, later: Self) {
        self.name = later.name.or(self.name.take());
        self.plan = later.plan.or(self.plan.take());
        self.scopes = later.scopes.or(self.scopes.take());
        self.expires_at = later.expires_at.or(self.expires_at);
        self.enabled = later.enabled.or(self.enabled);
        self.allowed_networks = later.allowed_networks.or(self.allowed_networks.take());
        self.leak_policy = later.leak_policy.or(self.leak_policy.take());
    }

    /// Returns whether nothing is set: a leak that only was reported.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn mask(&self) -> Option<prost_types::FieldMask> {
        let fields = [
            ("name", self.name.is_some()),
            ("plan", self.plan.is_some()),
            ("scopes", self.scopes.is_some()),
            ("expires_at", self.expires_at.is_some()),
            ("enabled", self.enabled.is_some()),
            ("allowed_networks", self.allowed_networks.is_some()),
            ("leak_policy", self.leak_policy.is_some()),
        ];
        let paths =
            fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path.to_owned()).collect();
        Some(prost_types::FieldMask { paths })
    }
}

/// What is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reapplied {
    State(FinalState),
    Deletion(Deletion),
    KeyUpdate(UpdatedValues),
    TenantUpdate(UpdatedValues),
}

/// A change of one key or tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) target: String,
    pub(super) reapplied: Reapplied,
}

impl Step {
    /// Makes the change.
    pub(super) async fn send(&self, admin: &AdminClient, reason: &str) -> Result<(), Error> {
        let target = &*self.target;
        match &self.reapplied {
            Reapplied::State(FinalState::Revoked) => admin.revoke_key(target, reason).await.map(drop),
            Reapplied::State(FinalState::Suspended) => admin.suspend_tenant(target, reason).await.map(drop),
            Reapplied::State(FinalState::Resumed) => admin.resume_tenant(target).await.map(drop),
            Reapplied::Deletion(deletion) => deletion.send(admin, target, reason).await,
            Reapplied::KeyUpdate(values) => {
                match admin.update_key(key_update(target, values, reason)).await {
                    // A revoked key needs no update.
                    Ok(_) | Err(Error::FailedPrecondition { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Reapplied::TenantUpdate(values) => {
                let request = proto::UpdateTenantRequest {
                    tenant_id: target.to_owned(),
                    update_mask: values.mask(),
                    name: values.name.clone().unwrap_or_default(),
                    plan: values.plan.clone().unwrap_or_default(),
                    etag: String::new(),
                    reason: reason.to_owned(),
                    leak_policy: values
                        .leak_policy
                        .as_ref()
                        .and_then(|policy| leak_policy(policy.as_deref()?)),
                };
                admin.update_tenant(request).await.map(drop)
            }
        }
    }

    /// Adds the change to the report.
    pub(super) fn record(self, view: &mut ReplayView) {
        match self.reapplied {
            Reapplied::State(FinalState::Revoked) => view.revoked.push(self.target),
            Reapplied::State(FinalState::Suspended) => view.suspended.push(self.target),
            Reapplied::State(FinalState::Resumed) => view.resumed.push(self.target),
            Reapplied::Deletion(_) => view.deleted.push(self.target),
            Reapplied::KeyUpdate(_) | Reapplied::TenantUpdate(_) => view.updated.push(self.target),
        }
    }
}

/// Parses a policy as the database stores it.
fn leak_policy(stored: &str) -> Option<proto::LeakPolicy> {
    let action = |action: proto::LeakAction| proto::LeakPolicy { action: action.into(), expire_in: None };
    match stored {
        "disable" => Some(action(proto::LeakAction::Disable)),
        "notify" => Some(action(proto::LeakAction::Notify)),
        _ => {
            let millis = stored.strip_prefix("expire:")?.parse().ok()?;
            let expire_in = prost_types::Duration::try_from(Duration::from_millis(millis)).ok();
            Some(proto::LeakPolicy { expire_in, ..action(proto::LeakAction::Expire) })
        }
    }
}

fn key_update(key_id: &str, values: &UpdatedValues, reason: &str) -> proto::UpdateKeyRequest {
    let expires_at = values.expires_at.flatten().map(|millis| prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
    });
    proto::UpdateKeyRequest {
        key_id: key_id.to_owned(),
        update_mask: values.mask(),
        name: values.name.clone().unwrap_or_default(),
        scopes: values.scopes.clone().unwrap_or_default(),
        expires_at,
        enabled: values.enabled.unwrap_or_default(),
        etag: String::new(),
        reason: reason.to_owned(),
        allowed_networks: values.allowed_networks.clone().unwrap_or_default(),
    }
}
