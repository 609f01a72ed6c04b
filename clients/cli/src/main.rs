//! Command line for operators of tenant-auth.
fn main() {}
