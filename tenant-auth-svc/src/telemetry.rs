//! Logs, metrics and traces of the service.
//!
//! `instruments` and other modules measure, `server` collects a [`snapshot`], and this module exports it
//! under the names in [`names`], which alerts and dashboards rely on.

pub mod logging;
pub mod names;
pub mod otlp;
pub mod process;
pub mod prometheus;
pub mod snapshot;
pub mod traces;
