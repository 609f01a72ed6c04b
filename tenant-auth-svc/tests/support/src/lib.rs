//! A small Hrana server over the real libSQL engine, for tests.
//!
//! It implements SQL over HTTP as sqld 0.24 does (status codes, bodies, error codes, and the rewriting of
//! each statement by the same SQL parser), and injects faults: see [`Fault`]. Its work is counted: see
//! [`Counters`]. It can be a lagging read replica of another server, be restored from a backup, and be wiped.
//! It is for tests only: it has no namespaces and no rate limits. [`Random`] draws the steps of seeded tests.

mod clock;
mod connection;
mod counters;
mod data;
mod fault;
pub mod fuzz;
mod pipeline;
mod random;
mod server;
mod sql;
mod statement_log;
mod streams;
mod write_lock;

pub use self::{
    counters::Counters,
    data::Backup,
    fault::{Fault, FaultPlan},
    random::Random,
    server::{Builder, HranaServer},
    statement_log::StatementRows,
};
