//! Measures the speed of tenant-auth against servers that do nothing, in one run, round by round.

pub mod cases;
pub mod cpu_accounting;
pub mod database;
pub mod empty;
pub mod load;
pub mod process;
pub mod programs;
pub mod round_check;
pub mod service;
pub mod stats;
pub mod table;
