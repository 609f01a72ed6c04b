//! For those who run the service, over plain HTTP on a port of its own: is it alive, is it ready, how does what it
//! depends on fare, and what do its metrics say.
//!
//! Readiness goes on through an outage of the database, since memory answers: if it followed the database, all
//! replicas would be taken out of service at once, at the moment when their memories are all there is.

mod connections;
pub mod expiry;
mod json;
mod server;
pub mod status;
mod text;

pub use self::server::{OpsListener, OpsState, StatusCheck, bind};
