//! The build information that the build script stamps into the binary.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use thiserror::Error;

/// The branch that releases are built from.
const CANONICAL_BRANCH: &str = "main";

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
    /// Build time, or the time given by `SOURCE_DATE_EPOCH`, in seconds since 1970; `None` when unknown.
    pub built_at: Option<u64>,
}

/// This build.
pub const THIS: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("TENANT_AUTH_BUILD_COMMIT"),
    branch: env!("TENANT_AUTH_BUILD_BRANCH"),
    dirty: matches!(env!("TENANT_AUTH_BUILD_DIRTY").as_bytes(), b"true"),
    built_at: match u64::from_str_radix(env!("TENANT_AUTH_BUILD_TIME"), 10) {
        Ok(seconds) => Some(seconds),
        Err(_) => None,
    },
};

/// The output of `--version` after the program name.
pub static LONG_VERSION: LazyLock<String> = LazyLock::new(|| THIS.long_version());

/// The running binary cannot be traced to a reviewed commit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotCanonical {
    /// Built outside a checkout, without a commit in the environment.
    #[error("the commit it was built from is unknown")]
    UnknownCommit,
    /// Built from modified files.
    #[error("it was built from files that differ from commit {0}")]
    Dirty(&'static str),
    /// Built from another branch, or from none.
    #[error("commit {commit} was built on branch {branch:?}, not on {CANONICAL_BRANCH}")]
    OtherBranch {
        /// The commit.
        commit: &'static str,
        /// The branch; empty when unknown.
        branch: &'static str,
    },
}

impl Build {
    /// Requires a build that is fit for production: a clean commit of main. Whether that is the main of the canonical
    /// repository is checked by the release guard.
    ///
    /// # Errors
    /// [`NotCanonical`] gives the reason.
    pub fn require_canonical(&self) -> Result<(), NotCanonical> {
        let Self { commit, branch, dirty, .. } = *self;
        if commit.is_empty() {
            Err(NotCanonical::UnknownCommit)
        } else if dirty {
            Err(NotCanonical::Dirty(commit))
        } else if branch != CANONICAL_BRANCH {
            Err(NotCanonical::OtherBranch { commit, branch })
        } else {
            Ok(())
        }
    }

    /// Returns the version and the stamp, one line per part; the release guard reads it.
    #[must_use]
    pub fn long_version(&self) -> String {
        let Self { version, commit, branch, dirty, .. } = self;
        let built = self.built_at.map_or_else(String::new, |seconds| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            humantime::format_rfc3339_seconds(at).to_string()
        });
        format!("{version}\ncommit: {commit}\nbranch: {branch}\ndirty: {dirty}\nbuilt: {built}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: Build = Build {
        version: "1.2.3",
        commit: "abc",
        branch: "main",
        dirty: false,
        built_at: Some(1_763_683_200),
    };

    #[test]
    fn only_clean_commit_of_main_is_canonical() {
        assert_eq!(RELEASED.require_canonical(), Ok(()));
        let unknown = Build { commit: "", ..RELEASED };
        assert_eq!(unknown.require_canonical(), Err(NotCanonical::UnknownCommit));
        let dirty = Build { dirty: true, ..RELEASED };
        assert_eq!(dirty.require_canonical(), Err(NotCanonical::Dirty("abc")));
        for branch in ["", "feature", "main2"] {
            let other = Build { branch, ..RELEASED };
            let commit = "abc";
            assert_eq!(other.require_canonical(), Err(NotCanonical::OtherBranch { commit, branch }));
        }
    }

    #[test]
    fn long_version_has_a_line_for_each_part() {
        let expected = "1.2.3\ncommit: abc\nbranch: main\ndirty: false\nbuilt: 2025-11-21T00:00:00Z";
        assert_eq!(RELEASED.long_version(), expected);
    }
}
