//! Sessions: what a customer's MCP or CLI session is bound to, and for how long.

mod attributes;
mod id;
mod record;
mod sliding;
mod sweep;
mod verdict;

pub use self::{
    attributes::{Attributes, InvalidAttributes},
    id::{InvalidSessionId, SessionId},
    record::{InvalidTtl, NewSession, Session, SessionExpiry, SessionRecord, StoredBinding, Ttl},
    sliding::SlidingExpiryTracker,
    sweep::{SessionOpener, SessionSweeper, SweptSessions},
    verdict::SessionVerdict,
};
