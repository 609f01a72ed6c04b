//! The result of a check, as text and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::refusal::Refusal;

/// The result of a check.
#[derive(Debug)]
pub struct Report {
    /// The checked commit.
    pub commit: String,
    /// The remote, as it was named.
    pub remote: String,
    /// The branch that releases come from.
    pub branch: String,
    /// The tip of that branch on the remote, if the remote could be read.
    pub tip: Option<String>,
    /// All problems; empty when the commit may be released.
    pub refusals: Vec<Refusal>,
}

impl Report {
    /// Returns whether the commit may be released.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.refusals.is_empty()
    }

    /// Returns the machine-readable report.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let refusals: Vec<_> = self
            .refusals
            .iter()
            .map(|refusal| {
            json!({ "code": refusal.code(), "problem": refusal.to_string(), "remedy": refusal.remedy() })
        }).collect();
        json!({
            "accepted": self.is_accepted(),
            "commit": self.commit,
            "remote": self.remote,
            "branch": self.branch,
            "tip": self.tip,
            "refusals": refusals,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, branch, remote, refusals, .. } = self;
        if refusals.is_empty() {
            return write!(f, "{commit} may be released: clean, and on {branch} of {remote}");
        }
        write!(f, "{commit} must not be released:")?;
        for refusal in refusals {
            write!(f, "\n  {refusal}; {}", refusal.remedy())?;
        }
        Ok(())
    }
}
