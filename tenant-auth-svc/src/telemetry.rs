//! How the service tells what it does.

pub mod logging;
pub mod names;
