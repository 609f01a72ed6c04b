//! The database: two engines that run SQL, the statements that implement [`Store`](crate::domain::store::Store) on
//! either, and the decorators around them.

pub mod backend;
pub mod client;
pub mod engine;
pub mod hrana;
pub mod libsql;
pub mod migrate;
pub mod sql;
