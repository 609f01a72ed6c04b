//! Front doors: answers for proxies and other HTTP software that ask about a customer's request.
//!
//! They decide like the gRPC service, with the same use case, and keep its distinction: a denial is 401 or 403, and a key
//! that cannot be decided is 503, through every proxy. `check` answers Envoy over gRPC; `http` has a listener of its own, with
//! `forward_auth` for other proxies and `introspection` (RFC 7662) for everything else.

pub mod check;
pub mod counts;
pub mod door;
mod forward_auth;
pub mod http;
mod identity;
mod introspection;
pub mod principal;
mod refusal;
mod route;
