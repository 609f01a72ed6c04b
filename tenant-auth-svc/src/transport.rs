//! Connections: who may open one, which thread serves it, and how it ends.
//!
//! One acceptor takes connections and hands them out evenly to workers, threads with a runtime of their own. A
//! connection never leaves its worker: nothing on the way of a request is passed between threads, and what is in one
//! core's caches stays there. A gRPC connection lives for long, so a thread that took more than its share would keep it;
//! that is why the acceptor counts, instead of letting the kernel choose.

pub mod connection;
pub mod descriptors;
pub mod limits;
pub mod peer;
mod server;
pub mod tls;
mod worker;

pub use self::{
    peer::{Peer, PeerRequest},
    server::{ConnectionCounts, Connections, Server, ServerConfig},
};
