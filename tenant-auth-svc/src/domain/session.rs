//! Sessions: MCP or CLI sessions of customers, and the tenants that they are bound to.

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
