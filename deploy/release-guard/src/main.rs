//! The command: reads its arguments, runs the check, prints the report.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use release_guard::{
    canonical::CanonicalRepository,
    check::{CheckRequest, check},
    git::Git,
    stamp::BuildStamp,
};

/// Refuses to release anything but a clean commit of the canonical repository's main.
#[derive(Debug, Parser)]
#[command(version, about, after_help = "Exit codes: 0 may be released, 1 refused, 2 could not be checked.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the tree, its commit, the remote and, if given, the build's stamp; list every problem.
    Check(CheckArgs),
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// The checkout
    #[arg(long, value_name = "PATH", default_value = ".")]
    repo: PathBuf,
    /// The remote to query, by name or address; it must be the canonical repository
    #[arg(long, value_name = "NAME|URL", default_value = "origin")]
    remote: String,
    /// The canonical repository [default: that of deploy/release-guard/canonical.json]
    #[arg(long, value_name = "URL")]
    canonical: Option<String>,
    /// The branch that releases come from [default: that of deploy/release-guard/canonical.json]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// The commit to release; it must be checked out
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    commit: String,
    /// The image's labels or its whole `docker inspect`, as JSON or as a JSON file
    #[arg(long, value_name = "FILE|JSON", conflicts_with = "version_output")]
    image_stamp: Option<String>,
    /// The output of `tenant-auth-svc --version`
    #[arg(long, value_name = "TEXT")]
    version_output: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Command::Check(args) = Cli::parse().command;
    let json = args.json;
    let (text, code) = match run(args) {
        Ok(report) => {
            let text = if json { report.to_json().to_string() } else { report.to_string() };
            (text, if report.is_accepted() { 0 } else { 1 })
        }
        Err(error) if json => (serde_json::json!({ "accepted": false, "error": error }).to_string(), 2),
        Err(error) => (format!("error: {error}"), 2),
    };
    // JSON goes to stdout, for a program; a refusal goes to stderr, for the reader of the log.
    let written = match code == 0 || json {
        true => writeln!(std::io::stdout(), "{text}"),
        false => writeln!(std::io::stderr(), "{text}"),
    };
    // A report that could not be printed does not permit the release.
    ExitCode::from(if written.is_ok() { code } else { 2 })
}

fn run(args: CheckArgs) -> Result<release_guard::report::Report, String> {
    let git = Git::open(&args.repo).map_err(|error| error.to_string())?;
    let canonical = match (args.canonical, args.branch) {
        (Some(remote), Some(branch)) => CanonicalRepository { remote, branch },
        (remote, branch) => {
            let written = CanonicalRepository::read(git.folder()).map_err(|error| error.to_string())?;
            CanonicalRepository {
                remote: remote.unwrap_or(written.remote),
                branch: branch.unwrap_or(written.branch),
            }
        }
    };
    let stamp = match (args.image_stamp, args.version_output) {
        (Some(image), _) => Some(image_stamp(&image)),
        (None, Some(text)) => Some(BuildStamp::from_version_output(&text)),
        (None, None) => None,
    };
    let request = CheckRequest { canonical, remote: args.remote, commit: args.commit, stamp };
    check(&git, request).map_err(|error| error.to_string())
}

fn image_stamp(image: &str) -> Result<BuildStamp, String> {
    if image.trim_start().starts_with(['{', '[']) {
        return BuildStamp::from_json(image);
    }
    let text = fs::read_to_string(image).map_err(|error| format!("{image}: {error}"))?;
    BuildStamp::from_json(&text)
}
