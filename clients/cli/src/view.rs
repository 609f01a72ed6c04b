//! Views: the results of the commands, as text and as JSON.

mod audit;
mod change;
mod check;
mod database;
mod deletion;
mod explanation;
mod grace;
mod import;
mod info;
mod key;
mod key_state;
mod limit;
mod limit_state;
mod replay;
mod replicas;
mod scan;
mod session;
mod tenant;
mod usage;
mod validation;

use prost_types::Timestamp;
use tenant_auth_client::proto::LookupState;

pub(crate) use self::{
    audit::EventView,
    change::{ChangeView, Confirmation},
    check::{CheckView, DatabaseRow},
    database::{AcceptedView, DatabaseView},
    deletion::DeletionView,
    explanation::{ExplainedRequest, ExplanationView},
    grace::GraceView,
    import::{DifferentRow, ImportView, RefusedRow},
    info::InfoView,
    key::{IssuedView, KeyView, KeyWithTenantView, RotatedView},
    key_state::KeyStateView,
    limit::{AddedCreditsView, DeletedLimitView, LimitView},
    limit_state::LimitStatesView,
    replay::{LostRow, ReplayView},
    replicas::{ReplicaRow, ReplicasView},
    scan::{FindingView, LeakView, ScanView},
    session::{BindingView, SessionValidationView, SessionView, UnboundView},
    tenant::TenantView,
    usage::{RecordedView, UsageView},
    validation::ValidationView,
};
use crate::time::Moment;

/// Converts a timestamp of a response.
fn to_moment(timestamp: Option<Timestamp>) -> Option<Moment> {
    timestamp.map(Moment::from)
}

/// Returns the text for the state of a replica's lookups.
fn lookups_name(state: LookupState) -> &'static str {
    match state {
        LookupState::Healthy => "healthy",
        LookupState::FeedSilent => "feed silent",
        LookupState::BreakerOpen => "breaker open",
        LookupState::Unspecified => "unknown",
    }
}

/// Returns `None` for an empty text.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn to_text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
