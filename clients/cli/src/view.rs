//! Views: the results of the commands, as text and as JSON.

mod audit;
mod check;
mod database;
mod grace;
mod import;
mod info;
mod key;
mod key_state;
mod replay;
mod session;
mod tenant;
mod usage;
mod validation;

use prost_types::Timestamp;

pub(crate) use self::{
    audit::EventView,
    check::{CheckView, DatabaseRow},
    database::{AcceptedView, DatabaseView},
    grace::GraceView,
    import::{ImportView, RefusedRow},
    info::InfoView,
    key::{IssuedView, KeyView, KeyWithTenantView, RotatedView},
    key_state::KeyStateView,
    replay::{LostRow, ReplayView},
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

/// Returns `None` for an empty text.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn to_text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
