//! The clients of all languages, held to the same cases and to their own tests.
//!
//! `cases/` says what a client has to do, `tests/conformance/` does it with each client's conformance runner against the
//! real service, and `tests/suites.rs` runs what each client's authors hold themselves to.

pub mod language;
