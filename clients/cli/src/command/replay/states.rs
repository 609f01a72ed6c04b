//! What the log says about each key and tenant in the end.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    deletion::Deletion,
    step::{Reapplied, Step, UpdatedValues},
};
use crate::{time::Moment, view::LostRow};

/// The fields of an audit log entry that a replay needs.
#[derive(Debug, Deserialize)]
pub(super) struct ReplayEntry {
    pub(super) at: String,
    action: String,
    target: String,
    #[serde(default)]
    tenant_id: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// The last state of each key and tenant in the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FinalStates {
    pub(super) keys: BTreeMap<String, FinalState>,
    pub(super) tenants: BTreeMap<String, FinalState>,
    pub(super) deleted_tenants: BTreeMap<String, Deletion>,
    pub(super) updated_keys: BTreeMap<String, UpdatedValues>,
    pub(super) updated_tenants: BTreeMap<String, UpdatedValues>,
    pub(super) lost: Vec<LostRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalState {
    Revoked,
    Suspended,
    Resumed,
}

impl From<ReplayEntry> for LostRow {
    fn from(entry: ReplayEntry) -> Self {
        Self {
            action: entry.action,
            target: entry.target,
            tenant_id: entry.tenant_id.filter(|id| !id.is_empty()),
        }
    }
}

impl FinalStates {
    pub(super) fn apply(&mut self, at: Moment, entry: ReplayEntry) {
        match entry.action.as_str() {
            "key.revoke" => {
                self.keys.insert(entry.target, FinalState::Revoked);
            }
            "key.update" | "key.leak" | "tenant.update" => {
                match UpdatedValues::parse(entry.detail.as_deref()) {
                    Some(later) if later.is_empty() => {}
                    Some(later) => {
                        let updated = match entry.action.as_str() {
                            "tenant.update" => &mut self.updated_tenants,
                            _ => &mut self.updated_keys,
                        };
                        updated.entry(entry.target).or_default().merge(later);
                    }
                    None => self.lost.push(entry.into()),
                }
            }
            "tenant.suspend" => {
                self.tenants.insert(entry.target, FinalState::Suspended);
            }
            "tenant.resume" => {
                self.tenants.insert(entry.target, FinalState::Resumed);
            }
            "tenant.delete" => {
                self.forget_tenant(&entry.target);
                let deletion = Deletion::parse(at, entry.detail.as_deref());
                self.deleted_tenants.insert(entry.target, deletion);
            }
            // The database stores only a digest of a key, and the log does not contain it.
            "key.issue" | "key.import" | "key.rotate" => self.lost.push(entry.into()),
            // Few ends of sessions are in the log: only those with a reason.
            "session.unbind" => self.lost.push(entry.into()),
            // What was used since is unknown, too.
            "limit.set" | "limit.delete" | "limit.add_credits" => self.lost.push(entry.into()),
            "tenant.create" => {
                // Earlier changes were those of another tenant with this id.
                self.forget_tenant(&entry.target);
                self.lost.push(entry.into());
            }
            // Actions on the replica or on the database itself, which a backup does not contain.
            _ => {}
        }
    }

    fn forget_tenant(&mut self, id: &str) {
        self.tenants.remove(id);
        self.updated_tenants.remove(id);
    }

    /// Returns the changes in the order in which they are made. Keys first: the keys of a resumed tenant must be revoked
    /// before they are valid again. A revoked key cannot be updated, and needs no update. Deletions come before the changes
    /// of other tenants, which may have the same id.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let updated_keys =
            self.updated_keys.clone().into_iter().filter(|(key, _)| !self.keys.contains_key(key));
        let keys = steps(self.keys.clone(), Reapplied::State);
        let updated_keys = steps(updated_keys.collect(), Reapplied::KeyUpdate);
        let deleted_tenants = steps(self.deleted_tenants.clone(), Reapplied::Deletion);
        let updated_tenants = steps(self.updated_tenants.clone(), Reapplied::TenantUpdate);
        let tenants = steps(self.tenants.clone(), Reapplied::State);
        keys.chain(updated_keys).chain(deleted_tenants).chain(updated_tenants).chain(tenants)
    }
}

fn steps<T>(targets: BTreeMap<String, T>, reapplied: fn(T) -> Reapplied) -> impl Iterator<Item = Step> {
    targets.into_iter().map(move |(target, value)| Step { target, reapplied: reapplied(value) })
}
