//! The near-cache of the Rust client, measured by its own benchmark with the release profile that ships.

use std::process::Command;

use anyhow::ensure;

use crate::table::print_text;

pub(super) fn run() -> anyhow::Result<()> {
    print_text("\nThe near-cache of the Rust client: one cached lookup\n");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["bench", "--quiet", "-p", "tenant-auth-client", "--bench", "near_cache", "--profile", "dist"])
        .status()?;
    ensure!(status.success(), "the client's benchmark failed");
    Ok(())
}
