//! `tenantctl scan`

mod printer;
mod report;

use std::path::PathBuf;

use clap::Args;

use self::printer::Printer;
use super::Context;
use crate::{
    exit::Exit,
    failure::Failure,
    scan::{self, Excludes, KeyLayout, Matcher, Scanner, Walk},
};

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Files and folders to scan; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Prefix of the keys (may be repeated): TENANT_AUTH_KEY_PREFIX of the service, and those it had before
    #[arg(long, default_value = "ta", value_parser = KeyLayout::new)]
    prefix: Vec<KeyLayout>,

    /// Scan the history of the repositories in PATH too: what is in any commit, tag or branch (requires git)
    ///
    /// Without it, .git folders are skipped. Each version of a file is scanned once.
    #[arg(long)]
    git: bool,

    /// Skip files and folders that match (may be repeated), such as '*.png', node_modules or 'docs/**/*.md'
    ///
    /// A pattern with a slash is that of a path below PATH, in an archive or in a repository; any other one is that of a
    /// name in any folder.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Follow symbolic links to files and folders
    #[arg(long)]
    follow_symlinks: bool,

    /// Report each key to the service, which treats it by the leak policy of its tenant
    ///
    /// Only the SHA-256 of the key and the first place are sent. Repeating a report is harmless.
    #[arg(long)]
    report: bool,

    /// Name of this scan in the reports
    #[arg(long, default_value = "tenantctl-scan", requires = "report", value_parser = parse_source)]
    source: String,
}

/// The service would reject any other name, but only after the scan.
fn parse_source(text: &str) -> Result<String, &'static str> {
    match (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 64 visible ASCII characters"),
    }
}

pub(super) async fn run(context: &Context, command: Scan) -> Result<Exit, Failure> {
    let excludes =
        Excludes::new(&command.exclude).map_err(|error| Failure::usage(format!("--exclude: {error}")))?;
    let matcher =
        Matcher::new(command.prefix).map_err(|error| Failure::usage(format!("--prefix: {error}")))?;
    // Before the scan, since it may last and the options of the connection may be wrong.
    let client = command.report.then(|| context.client()).transpose()?;

    let mut printer = Printer::new(context.output, command.report);
    let mut scanner = Scanner::new(&matcher, &excludes, &mut printer);
    let mut walk = Walk::new(command.follow_symlinks, command.git);
    for path in &command.paths {
        if scan::scan_path(&mut scanner, &mut walk, path).is_err() {
            break;
        }
    }
    let mut result = printer.finish()?;
    let Some(client) = client else { return result.show(context.output) };
    let reported = report::send(&client.admin(), context.output, &command.source, &mut result).await;
    let exit = result.show(context.output)?;
    reported.map(|()| exit)
}
