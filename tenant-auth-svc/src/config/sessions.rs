//! Limits of sessions.

use super::{parse::parse_number, reader::ConfigReader};

/// Limits of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsConfig {
    /// `TENANT_AUTH_SESSIONS_PER_TENANT`: maximum number of sessions bound to one tenant at a time. Default `10000`.
    pub max_per_tenant: u32,
    /// `TENANT_AUTH_CACHE_SESSIONS`: capacity of the session cache, in weight units of 1 KiB. Default `100000`. A
    /// session of more than 1 KiB, with long attributes, takes several units.
    pub cache_capacity: u64,
}

impl SessionsConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let per_tenant =
            reader.value("TENANT_AUTH_SESSIONS_PER_TENANT", "10000", parse_number(1..=10_000_000));
        let cache_capacity =
            reader.value("TENANT_AUTH_CACHE_SESSIONS", "100000", parse_number(1..=100_000_000));
        Some(Self {
            max_per_tenant: u32::try_from(per_tenant?).unwrap_or(u32::MAX),
            cache_capacity: cache_capacity?,
        })
    }
}
