//! Callers with a steady rate, and their results.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tenant_auth_conformance::runner::Runner;

/// Interval between the calls of a load.
pub(crate) const CALL_INTERVAL_MS: u64 = 10;
/// Number of calls per load, when loads repeat for as long as another task runs.
const CALLS_PER_ROUND: u64 = 50;

/// The latencies of calls. A call without a valid answer fails the scene before.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// In milliseconds, in the order in which the calls were started.
    pub(crate) latencies: Vec<f64>,
}

impl Latencies {
    /// Returns the latency of the slowest call, in whole milliseconds.
    pub(crate) fn slowest_ms(&self) -> u64 {
        self.latencies.iter().fold(0, |slowest, &latency| slowest.max(latency as u64))
    }

    /// Returns how long it took, from the call `first`, until calls took no longer than `usual_ms`.
    pub(crate) fn degraded_for_ms(&self, first: usize, usual_ms: f64) -> u64 {
        let slow = self.latencies.iter().skip(first).rposition(|latency| *latency > usual_ms);
        slow.map_or(0, |last| (last as u64 + 1) * CALL_INTERVAL_MS)
    }
}

/// Sends `calls` calls with the client's own timeout. None may fail.
///
/// # Errors
/// Fails if a call fails.
pub(crate) async fn run_load(runner: &Runner, key: &str, calls: u64) -> anyhow::Result<Latencies> {
    let command = json!({
        "op": "load", "key": key, "scopes": [], "calls": calls, "interval_ms": CALL_INTERVAL_MS, "timeout_ms": 0
    });
    let answer = runner.send_command(command).await?;
    let latencies: Vec<f64> = serde_json::from_value(answer["latency_ms"].clone())
        .with_context(|| format!("the answer has no latencies: {answer}"))?;
    let measured = Latencies { latencies };
    let all_good = answer["ok"] == json!(calls)
        && answer["verdicts"] == json!({ "VALID": calls })
        && answer["errors"].as_object().is_some_and(|errors| errors.is_empty())
        && measured.latencies.len() as u64 == calls;
    ensure!(
        all_good,
        "of {calls} calls, {} succeeded: verdicts {}, errors {}, the slowest took {} ms",
        answer["ok"],
        answer["verdicts"],
        answer["errors"],
        measured.slowest_ms()
    );
    Ok(measured)
}

/// Sends calls while a future runs, and some after it.
///
/// # Errors
/// Fails if a call or the future fails.
pub(crate) async fn run_load_during<T>(
    runner: &Runner,
    key: &str,
    other: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Latencies, T)> {
    let (over, mut is_over) = tokio::sync::oneshot::channel::<()>();
    let calling = async {
        let mut measured = Latencies::default();
        loop {
            let last = is_over.try_recv().is_ok();
            measured.latencies.extend(run_load(runner, key, CALLS_PER_ROUND).await?.latencies);
            if last {
                return anyhow::Ok(measured);
            }
        }
    };
    let other = async {
        let done = other.await?;
        // The calls may have failed already, which is reported below.
        let _ = over.send(());
        Ok(done)
    };
    tokio::try_join!(calling, other)
}

/// Returns whether an answer is an error with one of these codes.
pub(crate) fn is_failed_with(answer: &Value, codes: &[&str]) -> bool {
    answer["error"].as_str().is_some_and(|code| codes.contains(&code))
}
