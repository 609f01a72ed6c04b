//! Tells whether what is about to be released is a clean commit of the canonical repository's main.
//!
//! A build of anything else cannot be traced: nobody can read what runs, and nobody reviewed it. Start with [`check`].

pub mod address;
pub mod canonical;
pub mod check;
pub mod git;
pub mod refusal;
pub mod report;
pub mod stamp;
