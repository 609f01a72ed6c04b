//! Which builds may run.

use super::{parse::parse_bool, reader::ConfigReader};

/// Which builds may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseConfig {
    /// `TENANT_AUTH_REQUIRE_CANONICAL_BUILD`: whether only a build that is stamped as a clean commit of main may
    /// start. Default `false`.
    pub require_canonical: bool,
}

impl ReleaseConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let require_canonical = reader.value("TENANT_AUTH_REQUIRE_CANONICAL_BUILD", "false", parse_bool);
        Some(Self { require_canonical: require_canonical? })
    }
}
