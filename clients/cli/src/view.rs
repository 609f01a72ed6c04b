//! Results, as they are shown.

mod audit;
mod database;
mod grace;
mod import;
mod info;
mod key;
mod session;
mod tenant;
mod usage;
mod validation;

use prost_types::Timestamp;

pub(crate) use self::{
    audit::AuditView,
    database::{AcceptedView, DatabaseView},
    grace::GraceView,
    import::{ImportView, RefusedRow},
    info::InfoView,
    key::{IssuedView, KeyView, KeysView, RotatedView},
    session::{BindingView, SessionValidationView, SessionsView, UnboundView},
    tenant::{TenantView, TenantsView},
    usage::{RecordedView, UsageView},
    validation::ValidationView,
};
use crate::time::Moment;

/// A moment in a reply.
fn moment(timestamp: Option<Timestamp>) -> Option<Moment> {
    timestamp.map(Moment::from)
}

/// Empty means "there is none".
fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// With a list that is not complete.
fn rest(more: bool) -> Option<&'static str> {
    more.then_some("there is more: --all lists everything")
}
