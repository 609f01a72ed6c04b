//! How a replica learns what others have changed.

pub mod feed;
pub mod hub;
