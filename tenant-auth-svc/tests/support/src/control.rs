//! Commands of the program, read as lines from its standard input.
//!
//! `fault all|reads|writes NAME [MILLISECONDS]`, `clear`, `stop`, `start`, `hold-writes on|off`, `clock
//! SECONDS`. Each line is answered on the standard output once it has taken effect: `ok`, or `error: ` and
//! the reason.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenant_auth_testkit::{Fault, HranaServer};

const FAULT_NAMES: &str =
    "latency, hang, reset, unauthorized, forbidden, throttled, unavailable, html, blocked, locked";

/// Runs the command of a line.
///
/// # Errors
/// Returns what is wrong with the line, and the valid commands.
pub(crate) async fn run_command(server: &mut HranaServer, line: &str) -> Result<(), String> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        ["fault", requests, name] => set_fault(server, requests, parse_fault(name)?),
        ["fault", requests, "latency", milliseconds] => {
            let latency = Duration::from_millis(parse_number(milliseconds)?);
            set_fault(server, requests, Fault::Latency(latency))
        }
        ["clear"] => {
            server.faults().clear();
            Ok(())
        }
        ["stop"] => {
            server.stop().await;
            Ok(())
        }
        ["start"] => server.start_again().map_err(|error| error.to_string()),
        ["hold-writes", "on"] => {
            server.hold_writes(true);
            Ok(())
        }
        ["hold-writes", "off"] => {
            server.hold_writes(false);
            Ok(())
        }
        ["clock", seconds] => {
            let offset: i64 = parse_number(seconds)?;
            server.set_clock(move || unix_millis() + offset * 1_000);
            Ok(())
        }
        _ => Err(format!(
            "unknown command {line:?}: fault all|reads|writes NAME, clear, stop, start, hold-writes on|off, clock SECONDS"
        )),
    }
}

fn set_fault(server: &HranaServer, requests: &str, fault: Fault) -> Result<(), String> {
    match requests {
        "all" => server.faults().set(fault),
        "reads" => server.faults().set_reads(fault),
        "writes" => server.faults().set_writes(fault),
        _ => return Err(format!("unknown requests {requests:?}: all, reads or writes")),
    }
    Ok(())
}

pub(crate) fn parse_fault(name: &str) -> Result<Fault, String> {
    Ok(match name {
        "hang" => Fault::Hang,
        "reset" => Fault::ResetBeforeExecute,
        "unauthorized" => Fault::unauthorized(),
        "forbidden" => Fault::forbidden(),
        "throttled" => Fault::too_many_requests(1),
        "unavailable" => Fault::service_unavailable(),
        "html" => Fault::html_ok(),
        "blocked" => Fault::blocked(),
        "locked" => Fault::locked(),
        "latency" => return Err("latency needs a number of milliseconds".to_owned()),
        _ => return Err(format!("unknown fault {name:?}: one of {FAULT_NAMES}")),
    })
}

fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_run_and_unknown_ones_are_named() {
        let mut server = HranaServer::builder().start().await.expect("a server");
        for line in [
            "fault all hang",
            "fault reads latency 20",
            "fault writes blocked",
            "clear",
            "hold-writes on",
            "hold-writes off",
            "clock -7",
            "stop",
            "start",
        ] {
            assert_eq!(run_command(&mut server, line).await, Ok(()), "{line}");
        }
        for (line, wrong) in [
            ("fault some hang", "\"some\""),
            ("fault all sulk", "\"sulk\""),
            ("fault all latency long", "\"long\""),
            ("fault all latency", "milliseconds"),
            ("explode", "\"explode\""),
        ] {
            let error = run_command(&mut server, line).await.expect_err(line);
            assert!(error.contains(wrong), "{line}: {error}");
        }
    }
}
