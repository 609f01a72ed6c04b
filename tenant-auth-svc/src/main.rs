//! Parses the command line, runs one command, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use tenant_auth_svc::cli::Cli;

/// Fewer and shorter pauses than the system's allocator under many small requests.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
