//! How many sessions there may be.

use super::{parse::parse_number, reader::ConfigReader};

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsConfig {
    /// `TENANT_AUTH_SESSIONS_PER_TENANT`: the most sessions bound to one tenant at a time. Default `10000`.
    pub max_per_tenant: u32,
    /// `TENANT_AUTH_CACHE_SESSIONS`: places for sessions in memory. Default `100000`. One of more than 1 KiB, with long attributes,
    /// takes several.
    pub cache_capacity: u64,
}

impl SessionsConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let per_tenant =
            reader.value("TENANT_AUTH_SESSIONS_PER_TENANT", "10000", parse_number(1..=10_000_000));
        let in_memory = reader.value("TENANT_AUTH_CACHE_SESSIONS", "100000", parse_number(1..=100_000_000));
        Some(Self {
            max_per_tenant: u32::try_from(per_tenant?).unwrap_or(u32::MAX),
            cache_capacity: in_memory?,
        })
    }
}
