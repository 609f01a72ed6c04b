//! The domain model: tenants, keys, scopes, verdicts, and the use cases over them.
//!
//! It is independent of transport and storage: no gRPC, SQL, HTTP or cache library is used in or below this
//! module. `tests/it/architecture.rs` enforces this.

pub mod access;
pub mod admin;
pub mod audit;
pub mod cache_policy;
pub mod change;
pub mod change_log;
pub mod client_reuse;
pub mod clock;
pub mod condition;
pub mod deny;
pub mod etag;
pub mod grace;
pub mod id;
pub mod identity;
pub mod inspect;
pub mod jitter;
pub mod key;
pub mod key_headers;
pub mod known_database;
pub mod last_used;
pub mod leak;
pub mod limit;
pub mod network;
pub mod outage;
pub mod page;
pub mod principal_token;
pub mod record_source;
pub mod recovery;
pub mod scope;
pub mod session;
pub mod sessions;
pub mod store;
pub mod tenant;
pub mod text;
pub mod unknown_lookup_limiter;
pub mod usage;
pub mod validate;
pub mod verdict;
pub mod watch;
