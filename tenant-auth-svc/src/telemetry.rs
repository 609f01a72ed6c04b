//! How the service tells what it does: a log, metrics, traces.
//!
//! What is measured is in `measure` and in those who measure; `app` gathers it into a [`snapshot`], and here it is
//! written down, under the [`names`] that others rely on.

pub mod logging;
pub mod names;
pub mod otlp;
pub mod process;
pub mod prometheus;
pub mod snapshot;
pub mod traces;
