//! Why a release is refused, and what to do about it.

use thiserror::Error;

/// One reason. Its text says what is wrong; [`Refusal::remedy`] says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Files differ from the commit, or are not in it.
    #[error("the tree is not clean: {}", format_files(.0))]
    Dirty(Vec<String>),
    /// git was told not to look at files, so that a change in them would not show.
    #[error("git is told to overlook changes (skip-worktree, assume-unchanged) of {}", format_files(.0))]
    Overlooked(Vec<String>),
    /// What is checked out is not what is to be released.
    #[error("the tree holds {head}, not {commit}")]
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
        /// Where it leads.
        address: String,
        /// Where it should lead.
        canonical: String,
    },
    /// The remote does not answer, so that nothing can be said about it.
    #[error("{remote} cannot be reached: {cause}")]
    Unreachable {
        /// As it was named.
        remote: String,
        /// What git says.
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
    /// The commit is somewhere else.
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
    /// The history ends before the answer.
    #[error("the clone is shallow: it cannot tell whether {commit} is on {branch} of {remote}")]
    Shallow {
        /// The commit to release.
        commit: String,
        /// The branch.
        branch: String,
        /// As it was named.
        remote: String,
    },
    /// The local branch lacks commits.
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
    /// The local branch lacks commits and has others.
    #[error("the local {branch} and that of {remote} have gone different ways: {local} and {tip}")]
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
    /// A word for machines.
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

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Dirty(_) => "commit, stash or remove them (git status)".to_owned(),
            Self::Overlooked(_) => {
                "git update-index --no-skip-worktree --no-assume-unchanged on them, and look again".to_owned()
            }
            Self::NotCheckedOut { commit, .. } => format!("git checkout {commit}"),
            Self::NotCanonical { canonical, .. } => {
                format!("name the remote that leads to {canonical} (git remote -v, --remote)")
            }
            Self::Unreachable { .. } => "see to the network and the credentials, then try again".to_owned(),
            Self::NoBranch { .. } => "name the branch that releases come from (--branch)".to_owned(),
            Self::NotOnBranch { branch, .. } => format!("get it merged into {branch}, and release that"),
            Self::Shallow { .. } => "git fetch --unshallow".to_owned(),
            Self::Behind { branch, remote, .. } => {
                format!("git checkout {branch} && git pull {remote} {branch}")
            }
            Self::Diverged { branch, .. } => {
                format!("bring the local {branch} to that of the remote; keep your commits on another branch")
            }
            Self::NoStamp(_) => {
                "pass what the binary prints on --version, or the labels of the image".to_owned()
            }
            Self::OtherCommit { commit, .. } => format!("build {commit} and release that"),
            Self::OtherBranch { branch, .. } => format!("build from a checkout of {branch}"),
            Self::DirtyBuild => "build again from a clean tree".to_owned(),
        }
    }
}

/// The first few of many files.
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
