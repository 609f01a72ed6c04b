//! The client against a fake service: the test controls every answer, delay and invalidation.
#![allow(clippy::unwrap_used)]

mod allocations;
mod cache;
mod connections;
mod guard;
mod harness;
mod hedges;
mod interleavings;
mod layer;
mod limits;
mod mcp;
mod sessions;
mod watch;
