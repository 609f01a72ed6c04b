//! The database: two engines that run SQL, the statements that make a [`Store`](crate::domain::store::Store) of
//! either, and the decorators around them.

pub mod backend;
pub mod bounded;
pub mod breaker;
pub mod cached;
pub mod client;
pub mod coalesced;
pub mod engine;
pub mod grouped;
pub mod hrana;
pub mod known;
pub mod lag_aware;
pub mod libsql;
pub mod lookup;
pub mod migrate;
pub mod observed;
pub mod retried;
pub mod sql;
pub mod write_queue;
