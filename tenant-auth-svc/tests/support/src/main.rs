//! `hrana-test-server`: the test server as a program, for manual tests of a remote database, and to record
//! outages of one.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "output for the terminal")]

mod console;
mod control;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use serde_json::Value as Json;
use tenant_auth_testkit::HranaServer;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use self::console::Console;

const USAGE: &str =
    "hrana-test-server [--listen ADDR:PORT] [--db FILE] [--token TOKEN] [--read-only-token TOKEN] \
                     [--read_replica ADDR:PORT]
Faults by lines on the standard input, such as `fault writes hang` and `clear`.";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\nusage: {USAGE}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let mut builder = HranaServer::builder().address(SocketAddr::from(([127, 0, 0, 1], 8_080)));
    let mut read_replica_at = None;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        builder = match flag.as_str() {
            "--listen" => builder.address(parse_address(&value)?),
            "--db" => builder.database(PathBuf::from(value)),
            "--token" => builder.token(&value),
            "--read-only-token" => builder.read_only_token(&value),
            "--replica" => {
                read_replica_at = Some(parse_address(&value)?);
                builder
            }
            _ => return Err(format!("unknown flag {flag}")),
        };
    }
    let primary = builder.start().await.map_err(|error| error.to_string())?;
    println!("{}", primary.url());
    let mut read_replica = None;
    if let Some(at) = read_replica_at {
        let server = HranaServer::builder().address(at).replica_of(&primary).start().await;
        let server = server.map_err(|error| error.to_string())?;
        println!("{}", server.url());
        read_replica = Some(server);
    }
    let mut console = Console { primary, read_replica, backup: None };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| error.to_string()),
        failed = run_commands(&mut console) => failed,
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text} is no address"))
}

/// Runs the commands from the standard input. The end of the input does not stop the server.
async fn run_commands(console: &mut Console) -> Result<(), String> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        match console.run_command(&line).await {
            Ok(Json::Bool(true)) => println!("ok"),
            Ok(found) => println!("ok {found}"),
            Err(error) => println!("error: {error}"),
        }
    }
    std::future::pending().await
}
