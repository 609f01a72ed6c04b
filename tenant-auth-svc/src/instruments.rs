//! Instruments of the service: counters, duration histograms, scheduler lag, validity periods, and spans of traced
//! requests. They depend on nothing else in this crate, so that every module can use them; `telemetry` exports the
//! measurements under their metric names.

pub mod counts;
pub mod durations;
pub mod lag;
pub mod spans;
pub mod validity;
