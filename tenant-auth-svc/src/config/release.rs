//! Which builds may run.

use super::{parse::flag, reader::Reader};

/// Which builds may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseConfig {
    /// `TENANT_AUTH_REQUIRE_CANONICAL_BUILD`: whether only a build that is stamped as a clean commit of main may start.
    /// Default `false`.
    pub require_canonical: bool,
}

impl ReleaseConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let require_canonical = reader.value("TENANT_AUTH_REQUIRE_CANONICAL_BUILD", "false", flag);
        Some(Self { require_canonical: require_canonical? })
    }
}
