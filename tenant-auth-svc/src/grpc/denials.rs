//! A line of the log for each key and session that was denied, or could not be decided about, for whoever asks why a key stopped
//! working. The ids of the key and of its tenant are in it, never the key.
//!
//! It is written only where a filter asks for it (`tenant_auth::denied=debug`), and sampled like every other line.

use super::context::{CallerLabel, RequestId};
use crate::domain::{
    id::{KeyId, TenantId},
    key::KeyRecord,
    session::SessionVerdict,
    verdict::DENIALS_LOG_TARGET,
};

/// Whether a filter asks for the lines. Reading that costs about as much as reading a flag.
#[must_use]
pub fn is_enabled() -> bool {
    tracing::enabled!(target: DENIALS_LOG_TARGET, tracing::Level::DEBUG)
}

/// Which request the lines are about.
#[derive(Clone, Debug)]
pub struct DenialLog {
    /// The RPC.
    pub rpc: &'static str,
    /// The request's id.
    pub request_id: Option<RequestId>,
    /// The caller.
    pub caller: Option<CallerLabel>,
}

/// What a decision was about, where that is known: an unknown or malformed key has no id.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenialSubject<'a> {
    key_id: Option<&'a KeyId>,
    tenant_id: Option<&'a TenantId>,
}

impl<'a> DenialSubject<'a> {
    /// A key, if it is known.
    #[must_use]
    pub fn for_key(key: Option<&'a KeyRecord>) -> Self {
        Self { key_id: key.map(|key| &key.key_id), tenant_id: key.map(|key| &key.tenant_id) }
    }
}

impl DenialLog {
    pub(super) fn log_denial(&self, verdict: SessionVerdict, subject: DenialSubject<'_>) {
        tracing::debug!(
            target: DENIALS_LOG_TARGET,
            verdict = verdict.as_str(),
            key_id = subject.key_id.map(KeyId::as_str),
            tenant_id = subject.tenant_id.map(TenantId::as_str),
            rpc.method = self.rpc,
            caller = self.caller.as_ref().map(|caller| &*caller.0),
            request_id = self.request_id.as_ref().map(|id| &*id.0),
            "denied"
        );
    }

    /// Nobody knows which key it was: it may be any, and it may be none.
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
