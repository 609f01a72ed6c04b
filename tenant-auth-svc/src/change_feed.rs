//! The change feed: how a replica learns of changes by other writers.

pub mod hub;
pub mod poller;
