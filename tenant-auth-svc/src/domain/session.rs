//! Sessions: what a customer's MCP or CLI session is bound to, and for how long.

mod attributes;
mod id;
mod record;
mod slide;
mod sweep;
mod verdict;

pub use self::{
    attributes::{Attributes, InvalidAttributes},
    id::{InvalidSessionId, SessionId},
    record::{Binding, Expiry, InvalidTtl, NewSession, Session, SessionRecord, Ttl},
    slide::Slides,
    sweep::{SessionOpener, Sweeper, SweptSessions},
    verdict::SessionVerdict,
};
