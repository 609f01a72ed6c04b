//! Checks whether a commit, and its build, may be released: only a clean commit of the canonical repository's main.
//!
//! Any other build cannot be traced to reviewed source. Start with [`check`].

pub mod address;
pub mod canonical;
pub mod check;
pub mod git;
pub mod refusal;
pub mod report;
pub mod stamp;
