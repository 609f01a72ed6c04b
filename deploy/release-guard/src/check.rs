//! The check of a commit and of its build.

use crate::{
    address::normalize,
    canonical::CanonicalRepository,
    git::{Git, GitError},
    refusal::Refusal,
    report::Report,
    stamp::BuildStamp,
};

/// What to check.
#[derive(Debug)]
pub struct CheckRequest {
    /// The canonical repository and its branch.
    pub canonical: CanonicalRepository,
    /// The remote to query, by name or address.
    pub remote: String,
    /// The commit to release, in any form that git accepts.
    pub commit: String,
    /// The build's stamp, or why it cannot be read; `None` when there is no build yet.
    pub stamp: Option<Result<BuildStamp, String>>,
}

/// Runs all checks, and lists every problem. Changes nothing but git's object store, into which it fetches.
///
/// # Errors
/// [`GitError`] when git itself fails, or does not know the commit.
pub fn check(git: &Git, request: CheckRequest) -> Result<Report, GitError> {
    let head = git.output(&["rev-parse", "--verify", "HEAD^{commit}"])?;
    let commit = git.output(&[
        "rev-parse",
        "--verify",
        "--end-of-options",
        &format!("{}^{{commit}}", request.commit),
    ])?;
    let mut refusals = check_tree(git, &commit, &head)?;
    let tip = check_remote(git, &request, &commit, &mut refusals)?;
    if let Some(stamp) = request.stamp {
        refusals.extend(check_stamp(stamp, &commit, &request.canonical.branch));
    }
    Ok(Report { commit, remote: request.remote, branch: request.canonical.branch, tip, refusals })
}

fn check_tree(git: &Git, commit: &str, head: &str) -> Result<Vec<Refusal>, GitError> {
    let mut refusals = Vec::new();
    let changed =
        git.output(&["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=none"])?;
    if !changed.is_empty() {
        // Two letters and a space precede each name. The first letter may be a space, which must not be trimmed.
        refusals.push(Refusal::Dirty(
            changed.lines().filter_map(|line| line.get(3..)).map(str::to_owned).collect(),
        ));
    }
    // `H` is a file that git looks at; a small letter is assumed unchanged, `SECOND` is skipped.
    let listed = git.output(&["ls-files", "-v"])?;
    let overlooked =
        listed.lines().filter(|line| line.starts_with(|c: char| c == 'S' || c.is_ascii_lowercase()));
    let overlooked: Vec<_> = overlooked.filter_map(|line| line.get(2..)).map(str::to_owned).collect();
    if !overlooked.is_empty() {
        refusals.push(Refusal::Overlooked(overlooked));
    }
    if commit != head {
        refusals.push(Refusal::NotCheckedOut { commit: commit.to_owned(), head: head.to_owned() });
    }
    Ok(refusals)
}

/// Compares the commit with the remote's branch. Returns the branch's tip, if the remote could be read.
fn check_remote(
    git: &Git,
    request: &CheckRequest,
    commit: &str,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<String>, GitError> {
    let CheckRequest { canonical, remote, .. } = request;
    // Applies `url.….insteadOf`: the address that git really uses counts.
    let address = git.output(&["ls-remote", "--get-url", remote])?;
    if normalize(&address) != normalize(&canonical.remote) {
        refusals.push(Refusal::NotCanonical {
            remote: remote.clone(),
            address,
            canonical: canonical.remote.clone(),
        });
        return Ok(None);
    }
    let branch = canonical.branch.clone();
    let reference = format!("refs/heads/{branch}");
    let unreachable =
        |error: &GitError| Refusal::Unreachable { remote: remote.clone(), cause: error.to_string() };
    let listed = match git.output(&["ls-remote", remote, &reference]) {
        Ok(listed) => listed,
        Err(error) => {
            refusals.push(unreachable(&error));
            return Ok(None);
        }
    };
    // git matches the end of names: `refs/other/refs/heads/main` would be listed too.
    let named = listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == reference);
    let Some(tip) = named.map(|(tip, _)| tip.to_owned()) else {
        refusals.push(Refusal::NoBranch { remote: remote.clone(), branch });
        return Ok(None);
    };
    // Fetches the commits in between; moves no branch.
    let fetched = git.output(&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", remote, &reference]);
    if let Err(error) = fetched {
        refusals.push(unreachable(&error));
        return Ok(Some(tip));
    }
    let shallow = git.output(&["rev-parse", "--is-shallow-repository"])? == "true";
    let contains = |ancestor: &str, descendant: &str| {
        git.is_true(&["merge-base", "--is-ancestor", ancestor, descendant])
    };
    if !contains(commit, &tip)? {
        let (commit, remote, branch) = (commit.to_owned(), remote.clone(), branch.clone());
        refusals.push(match shallow {
            true => Refusal::Shallow { commit, branch, remote },
            false => Refusal::NotOnBranch { commit, branch, remote, tip: tip.clone() },
        });
    }
    // A build server may have no local branch: then none can be behind.
    if let Ok(local) = git.output(&["rev-parse", "--verify", "--quiet", &reference])
        && local != tip
        && !contains(&tip, &local)?
    {
        let (remote, tip) = (remote.clone(), tip.clone());
        refusals.push(if contains(&local, &tip)? {
            Refusal::Behind { branch, remote, local, tip }
        } else if shallow {
            Refusal::Shallow { commit: local, branch, remote }
        } else {
            Refusal::Diverged { branch, remote, local, tip }
        });
    }
    Ok(Some(tip))
}

fn check_stamp(stamp: Result<BuildStamp, String>, commit: &str, branch: &str) -> Vec<Refusal> {
    let stamp = match stamp {
        Ok(stamp) => stamp,
        Err(error) => return vec![Refusal::NoStamp(error)],
    };
    let mut refusals = Vec::new();
    if stamp.commit != commit {
        refusals.push(Refusal::OtherCommit { stamped: stamp.commit, commit: commit.to_owned() });
    }
    if stamp.branch != branch {
        refusals.push(Refusal::OtherBranch { stamped: stamp.branch, branch: branch.to_owned() });
    }
    if stamp.dirty {
        refusals.push(Refusal::DirtyBuild);
    }
    refusals
}
