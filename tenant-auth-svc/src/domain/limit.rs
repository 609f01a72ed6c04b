//! Limits: quotas, credits and rates of tenants and keys.
//!
//! A replica holds a lease of each limit in use: a part of it that the database has counted and that this replica alone may
//! spend. So no replica can admit what another one has admitted, whatever their clocks say, and a decision needs no call to the
//! database as long as the lease lasts. `counter` is one limit in use, `exchange` what replica and database tell each other.

pub mod admin;
pub mod calendar;
pub mod consume;
pub mod counter;
pub mod definition;
mod enforcer;
pub mod exchange;
pub mod held;
mod outcome;
mod state;
pub mod store;
mod stored;

pub use self::{
    definition::{
        CalendarWindow, Credits, InvalidLimit, InvalidLimitName, Limit, LimitAmount, LimitName, LimitRule,
        LimitSubject, OutagePolicy, Quota, QuotaWindow, Rate, Refill,
    },
    enforcer::{LimitEnforcer, ReservationRequest},
    exchange::{
        CounterKey, EndedReservation, Exchange, ExchangeResponse, HolderId, LeaseGrant, LeaseRequest,
        LeaseStore, LimitIdOutcome, NewLimitId, NewReservation, ReservationEnd, ReservationState,
        ReservedLimit, SeenCounter, SettledLimit,
    },
    outcome::{
        Cost, Costs, LimitDecision, LimitDenial, LimitError, LimitOutcome, MAX_LIMITS, ReservationError,
    },
    state::{LimitCount, LimitState},
    store::LimitStore,
    stored::StoredRule,
};
