//! `cargo run --release -p tenant-auth-bench`: builds the programs, measures them, and prints the tables.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tenant_auth_bench::{
    cases::{self, MissingFigures},
    programs::Programs,
};

/// Measures tenant-auth against servers that do nothing, round by round in one run.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of each case; baseline and subject take turns
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Run only cases whose name contains this text: unary, limits, doors, cross-check, many, latency, misses, memory, cache,
    /// near, profile, startup, connections
    #[arg(long)]
    only: Option<String>,
    /// Use the programs in this target folder instead of building them
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// Compare the load generator with this program (from Debian's nghttp2-client)
    #[arg(long, value_name = "PATH")]
    h2load: Option<PathBuf>,
    /// Let `perf` write samples of the service under load to this file
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// One part of the case `cache`, which runs itself in processes of their own
    #[arg(long, hide = true)]
    cache_part: Option<String>,
}

/// That of the service, so that memory is comparable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code if a row of a table has no figure.
const EXIT_TOO_BUSY: u8 = 3;

fn main() -> ExitCode {
    let (code, last_words) = match run(Args::parse()) {
        Ok(missing) if missing.rows().is_empty() => return ExitCode::SUCCESS,
        Ok(missing) => {
            let rows = missing.rows().join("; ");
            (
                ExitCode::from(EXIT_TOO_BUSY),
                format!("the machine was too busy for these rows, which have no figure: {rows}"),
            )
        }
        Err(error) => (ExitCode::FAILURE, format!("error: {error:#}")),
    };
    #[expect(clippy::print_stderr, reason = "the error of a command")]
    {
        eprintln!("{last_words}");
    }
    code
}

fn run(args: Args) -> anyhow::Result<MissingFigures> {
    if let Some(part) = args.cache_part {
        cases::run_cache_part(&part, args.rounds)?;
        return Ok(MissingFigures::default());
    }
    let programs = match args.built {
        Some(folder) => Programs::in_folder(&folder),
        None => Programs::build()?,
    };
    // The load generator is one thread bound to one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plan = cases::Plan {
        programs,
        rounds: args.rounds,
        time: Duration::from_secs_f64(args.seconds),
        only: args.only,
        h2load: args.h2load,
        samples: args.samples,
    };
    runtime.block_on(cases::run(&plan))
}
