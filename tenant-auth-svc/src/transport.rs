//! Accepts connections, assigns each to a worker thread, and ends them.
//!
//! One acceptor distributes the connections evenly over the workers, which are threads with a runtime each. A
//! connection never leaves its worker: a request crosses no thread, and its data stays in the caches of one
//! core. A gRPC connection lives long, so a worker with too many connections would keep them. That is why the
//! acceptor counts them, instead of leaving the choice to the kernel.

pub mod connection;
pub mod descriptors;
pub mod http1;
pub mod limits;
pub mod peer;
mod server;
pub mod tls;
mod worker;

pub use self::{
    peer::{Peer, PeerRequest},
    server::{ConnectionCounts, Connections, Server, ServerConfig},
};
