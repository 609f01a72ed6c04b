//! Logs a line for each key or session that was denied or could not be decided, to find out why a key stopped
//! working. A line has the ids of the key and of its tenant, never the key.
//!
//! The lines are written only if the log filter selects them (`tenant_auth::denied=debug`), and they are
//! sampled like all other lines.

use super::context::{CallerLabel, RequestId};
use crate::domain::{
    id::{KeyId, PackedKeyId, TenantId},
    key::KeyRecord,
    session::SessionVerdict,
    verdict::DENIALS_LOG_TARGET,
};

/// Returns whether the log filter selects denial lines. The check costs about as much as reading a flag.
#[must_use]
pub fn is_enabled() -> bool {
    tracing::enabled!(target: DENIALS_LOG_TARGET, tracing::Level::DEBUG)
}

/// The request that the lines are about.
#[derive(Clone, Debug)]
pub struct DenialLog {
    /// The name of the RPC.
    pub rpc: &'static str,
    /// The id of the request.
    pub request_id: Option<RequestId>,
    /// The caller.
    pub caller: Option<CallerLabel>,
}

/// The ids of the key, if it is known: an unknown or malformed key has no id.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenialSubject<'a> {
    key_id: Option<&'a PackedKeyId>,
    tenant_id: Option<&'a TenantId>,
}

impl<'a> DenialSubject<'a> {
    /// Returns the subject of a key, or an empty subject.
    #[must_use]
    pub fn for_key(key: Option<&'a KeyRecord>) -> Self {
        Self { key_id: key.map(|key| &key.key_id), tenant_id: key.map(|key| &key.tenant.id) }
    }
}

impl DenialLog {
    pub(super) fn log_denial(&self, verdict: SessionVerdict, subject: DenialSubject<'_>) {
        let key_id = subject.key_id.map(PackedKeyId::unpack);
        tracing::debug!(
            target: DENIALS_LOG_TARGET,
            verdict = verdict.as_str(),
            key_id = key_id.as_ref().map(KeyId::as_str),
            tenant_id = subject.tenant_id.map(TenantId::as_str),
            rpc.method = self.rpc,
            caller = self.caller.as_ref().map(|caller| &*caller.0),
            request_id = self.request_id.as_ref().map(|id| &*id.0),
            "denied"
        );
    }

    /// Without ids: it is not known which key this is, or whether it exists.
    pub(super) fn log_undecided(&self, reason: &'static str) {
        tracing::debug!(
            target: DENIALS_LOG_TARGET,
            reason,
            rpc.method = self.rpc,
            caller = self.caller.as_ref().map(|caller| &*caller.0),
            request_id = self.request_id.as_ref().map(|id| &*id.0),
            "not decided"
        );
    }
}
