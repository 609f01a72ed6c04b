//! Parses the command line, runs one command, and exits with its code.

use std::process::ExitCode;

use clap::Parser as _;
use tenant_auth_svc::cli::Cli;

/// mimalloc pauses less often and for less time than the system allocator under many small requests.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
