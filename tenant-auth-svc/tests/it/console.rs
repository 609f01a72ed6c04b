//! The console, at the level of HTTP.

mod audit;
mod changes;
mod find;
mod fleet;
mod keys;
mod logins;
mod overview;
mod requests;
mod tenant;
mod tenants;
