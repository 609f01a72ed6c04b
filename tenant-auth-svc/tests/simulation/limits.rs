//! Limits: what is admitted by all replicas together never exceeds a limit, what has an id is taken once, and a denial has a
//! reason.

mod changes;
mod counted;
mod decisions;
mod exhaustion;
mod ledger;
mod reservations;
mod traffic;

pub(crate) use self::traffic::LimitTraffic;

/// The names of limits of plans and tenants, and the one of keys. Each limits a metric with its own name, so that several
/// apply to a request with several costs.
pub(crate) const NAMES: [&str; 6] = ["balance", "daily", "hourly", "key.hourly", "rate", "rolling"];
