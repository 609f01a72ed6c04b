//! What the others measure with: counts, times, lateness, validity, and spans of traced requests. It names nothing of this crate,
//! so that everything may use it; `telemetry` tells what was measured, under names of its own.

pub mod counts;
pub mod durations;
pub mod lag;
pub mod spans;
pub mod validity;
