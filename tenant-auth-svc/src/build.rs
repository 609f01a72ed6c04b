//! Which build this is, as stamped by the build script.

/// A build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Semantic version.
    pub version: &'static str,
    /// Git commit; empty when built outside a checkout.
    pub commit: &'static str,
    /// Git branch; empty when unknown.
    pub branch: &'static str,
    /// Whether tracked files differed from the commit.
    pub dirty: bool,
}

/// This build.
pub const THIS: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("TENANT_AUTH_BUILD_COMMIT"),
    branch: env!("TENANT_AUTH_BUILD_BRANCH"),
    dirty: matches!(env!("TENANT_AUTH_BUILD_DIRTY").as_bytes(), b"true"),
};
