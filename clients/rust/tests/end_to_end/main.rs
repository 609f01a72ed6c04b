//! The client against a real service with an embedded database.
#![allow(clippy::unwrap_used)]

mod changes;
mod closing;
mod encrypted;
mod endpoints;
mod examples;
mod guards;
mod harness;
mod keys;
mod layer;
mod limits;
mod mcp;
mod outage;
mod principals;
mod secrecy;
mod sessions;
mod tokens;
mod usage;
mod watch;
