//! `hrana-test-server`: the test server as a program, to try a remote database by hand.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use tenant_auth_testkit::HranaServer;

const USAGE: &str = "hrana-test-server [--listen ADDR:PORT] [--db FILE] [--token TOKEN]";

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
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        builder = match flag.as_str() {
            "--listen" => builder.address(value.parse().map_err(|_| format!("{value} is no address"))?),
            "--db" => builder.database(PathBuf::from(value)),
            "--token" => builder.token(&value),
            _ => return Err(format!("unknown flag {flag}")),
        };
    }
    let server = builder.start().await.map_err(|error| error.to_string())?;
    println!("{}", server.url());
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}
