//! Measures the speed of tenant-auth against servers that do nothing, in one run, round by round.

pub mod books;
pub mod cases;
pub mod database;
pub mod empty;
pub mod judge;
pub mod load;
pub mod process;
pub mod programs;
pub mod service;
pub mod stats;
pub mod table;
