//! Reasons for which a release is refused, and their remedies.

use thiserror::Error;

/// A reason. Its text names the problem; [`Refusal::remedy`] says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Files differ from the commit, or are not in it.
    #[error("the tree is not clean: {}", format_files(.0))]
    Dirty(Vec<String>),
    /// Files are hidden from git, so that a change in them would not show.
    #[error("changes are hidden from git (skip-worktree, assume-unchanged) in {}", format_files(.0))]
    Overlooked(Vec<String>),
    /// The checked-out commit is not the commit to release.
    #[error("{head} is checked out, not {commit}")]
    NotCheckedOut {
        /// The commit to release.
        commit: String,
        /// The commit of the tree.
        head: String,
    },
    /// The remote is another repository.
    #[error("{remote} is {address}, not the canonical repository {canonical}")]
    NotCanonical {
        /// As it was named.
        remote: String,
        /// The address that git uses for it.
        address: String,
        /// The address of the canonical repository.
        canonical: String,
    },
    /// The remote cannot be reached, so it cannot be checked.
    #[error("{remote} cannot be reached: {cause}")]
    Unreachable {
        /// As it was named.
        remote: String,
        /// git's error message.
        cause: String,
    },
    /// The remote has no such branch.
    #[error("{remote} has no branch {branch}")]
    NoBranch {
        /// As it was named.
        remote: String,
        /// The branch.
        branch: String,
    },
    /// The commit is not on the remote's branch.
    #[error("{commit} is not on {branch} of {remote}, which is at {tip}")]
    NotOnBranch {
        /// The commit to release.
        commit: String,
        /// The branch.
        branch: String,
        /// As it was named.
        remote: String,
        /// Where the branch is.
        tip: String,
    },
    /// The local history is too short to decide.
    #[error("the clone is shallow: its history does not show whether {commit} is on {branch} of {remote}")]
    Shallow {
        /// The commit to release.
        commit: String,
        /// The branch.
        branch: String,
        /// As it was named.
        remote: String,
    },
    /// The local branch is missing commits of the remote branch.
    #[error("the local {branch} is behind {remote}: {local} instead of {tip}")]
    Behind {
        /// The branch.
        branch: String,
        /// As it was named.
        remote: String,
        /// Where the local branch is.
        local: String,
        /// Where the remote branch is.
        tip: String,
    },
    /// The local branch is missing commits of the remote branch, and has others.
    #[error("the local {branch} and that of {remote} have diverged: {local} and {tip}")]
    Diverged {
        /// The branch.
        branch: String,
        /// As it was named.
        remote: String,
        /// Where the local branch is.
        local: String,
        /// Where the remote branch is.
        tip: String,
    },
    /// The stamp cannot be read.
    #[error("the stamp of the build cannot be read: {0}")]
    NoStamp(String),
    /// The build is of another commit.
    #[error("the build is stamped with commit {}, not {commit}", or_none(.stamped))]
    OtherCommit {
        /// What the build says.
        stamped: String,
        /// The commit to release.
        commit: String,
    },
    /// The build is of another branch.
    #[error("the build is stamped with branch {}, not {branch}", or_none(.stamped))]
    OtherBranch {
        /// What the build says.
        stamped: String,
        /// The canonical branch.
        branch: String,
    },
    /// Files differed from the commit when it was built.
    #[error("the build is stamped as dirty: it was made from changed files")]
    DirtyBuild,
}

impl Refusal {
    /// Returns the machine-readable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Dirty(_) => "dirty",
            Self::Overlooked(_) => "overlooked",
            Self::NotCheckedOut { .. } => "not_checked_out",
            Self::NotCanonical { .. } => "not_canonical",
            Self::Unreachable { .. } => "unreachable",
            Self::NoBranch { .. } => "no_branch",
            Self::NotOnBranch { .. } => "not_on_branch",
            Self::Shallow { .. } => "shallow",
            Self::Behind { .. } => "behind",
            Self::Diverged { .. } => "diverged",
            Self::NoStamp(_) => "no_stamp",
            Self::OtherCommit { .. } => "other_commit",
            Self::OtherBranch { .. } => "other_branch",
            Self::DirtyBuild => "dirty_build",
        }
    }

    /// Returns the remedy.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Dirty(_) => "commit, stash or remove them (git status)".to_owned(),
            Self::Overlooked(_) => {
                "run git update-index --no-skip-worktree --no-assume-unchanged on them, then check again"
                    .to_owned()
            }
            Self::NotCheckedOut { commit, .. } => format!("git checkout {commit}"),
            Self::NotCanonical { canonical, .. } => {
                format!("name the remote whose address is {canonical} (git remote -v, --remote)")
            }
            Self::Unreachable { .. } => "check the network and the credentials, then try again".to_owned(),
            Self::NoBranch { .. } => "name the branch that releases come from (--branch)".to_owned(),
            Self::NotOnBranch { branch, .. } => format!("merge it into {branch}, and release that"),
            Self::Shallow { .. } => "git fetch --unshallow".to_owned(),
            Self::Behind { branch, remote, .. } => {
                format!("git checkout {branch} && git pull {remote} {branch}")
            }
            Self::Diverged { branch, .. } => {
                format!("reset the local {branch} to that of the remote; keep your commits on another branch")
            }
            Self::NoStamp(_) => {
                "pass the output of --version of the binary, or the labels of the image".to_owned()
            }
            Self::OtherCommit { commit, .. } => format!("build {commit} and release that"),
            Self::OtherBranch { branch, .. } => format!("build from a checkout of {branch}"),
            Self::DirtyBuild => "build again from a clean tree".to_owned(),
        }
    }
}

/// Lists the first five of many files.
fn format_files(files: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = files.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if files.len() > SHOWN {
        text.push_str(&format!(" and {} more", files.len() - SHOWN));
    }
    text
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}
