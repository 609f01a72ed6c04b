//! How a replica learns what others have changed.

pub mod hub;
pub mod poller;
