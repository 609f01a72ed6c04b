//! Replicas that start, stop and hang, during calls with the client's own timeout.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tenant_auth_conformance::{WAIT_TIMEOUT, language::Language, report::Outcome, runner::Runner};
use tokio::time::{interval, timeout};

use crate::{
    link::DelayedLink,
    load::{CALL_INTERVAL_MS, run_load, run_load_during},
    stage::{Scenery, TENANT, endpoint_list, usage_total, variables},
};

/// A call that took longer than this waited for an unresponsive replica.
const USUAL_CALL_MS: f64 = 200.0;

/// One of two replicas is killed and replaced. Validations may be retried, so no call fails; usage recorded
/// meanwhile is counted once.
pub(crate) async fn killed(language: &'static Language) -> anyhow::Result<Outcome> {
    const EVENTS: u64 = 1_200;
    let mut stage = Scenery::with_replicas(2).await?;
    let (runner, key) = (stage.runner(language).await?, stage.key.clone());
    run_load(&runner, &key, 50).await?;
    stage.until_all_asked().await?;
    let replica = &mut stage.replicas[0];
    let replaced = async {
        replica.kill().await?;
        // Callers continue without it.
        run_load(&runner, &key, 50).await?;
        let record = json!({
            "op": "record_many", "tenant_id": TENANT, "metric": "walk.events", "count": EVENTS
        });
        let recorded = runner.send_command(record).await?;
        ensure!(recorded["accepted"] == EVENTS && recorded["rejected"] == 0, "recorded: {recorded}");
        replica.restart()?;
        replica.until_ready().await?;
        // Callers use it again.
        replica.until_validations(20).await
    };
    let (measured, ()) = run_load_during(&runner, &key, replaced).await?;
    let counted = usage_total(&runner, "walk.events").await?;
    ensure!(counted == EVENTS, "{EVENTS} events were counted as {counted}");
    runner.close().await?;
    Ok(passed_with(format!("{} calls, {} ms at most", measured.latencies.len(), measured.slowest_ms())))
}

/// Three replicas are restarted one after the other, as a deployment does.
pub(crate) async fn rolling_restart(language: &'static Language) -> anyhow::Result<Outcome> {
    let mut stage = Scenery::with_replicas(3).await?;
    let (runner, key) = (stage.runner(language).await?, stage.key.clone());
    run_load(&runner, &key, 60).await?;
    stage.until_all_asked().await?;
    let restarted = async {
        for replica in &mut stage.replicas {
            replica.stop().await?;
            replica.restart()?;
            replica.until_ready().await?;
            replica.until_validations(10).await?;
        }
        Ok(())
    };
    let (measured, ()) = run_load_during(&runner, &key, restarted).await?;
    runner.close().await?;
    Ok(passed_with(format!("{} calls, {} ms at most", measured.latencies.len(), measured.slowest_ms())))
}

/// One of two replicas is paused (SIGSTOP) with open connections, and resumed later.
pub(crate) async fn hung(language: &'static Language) -> anyhow::Result<Outcome> {
    const CALLS_BEFORE: u64 = 100;
    const CALLS: u64 = 400;
    let stage = Scenery::with_replicas(2).await?;
    let mut links = Vec::new();
    for replica in &stage.replicas {
        links.push(DelayedLink::to(replica.address, Duration::ZERO).await?);
    }
    let endpoints = endpoint_list(links.iter().map(|link| link.address.to_string()));
    let runner = Runner::start(language, crate::RUNNER_BUILD_FOLDER.as_ref(), &variables(&endpoints)).await?;
    run_load(&runner, &stage.key, 50).await?;
    stage.until_all_asked().await?;

    let (replica, link) = (&stage.replicas[0], &links[0]);
    let calls = || links.iter().map(DelayedLink::calls).sum::<u64>();
    let (hung_at, before) = (calls() + CALLS_BEFORE, link.calls());
    let stopped = async {
        wait_until(|| calls() >= hung_at, "the calls do not continue").await?;
        replica.signal("STOP").await?;
        Ok(link.calls())
    };
    let (measured, then) = tokio::try_join!(run_load(&runner, &stage.key, CALLS), stopped)?;
    ensure!(then > before, "the replica received no call before it was stopped");
    let waited_for_it = link.calls() - then;

    // By now it is excluded: no further call goes to it.
    let then = link.calls();
    run_load(&runner, &stage.key, CALLS / 2).await?;
    let more = link.calls() - then;
    ensure!(
        more == 0,
        "{more} more calls were sent to a replica that had been unresponsive for {} ms",
        (CALLS - CALLS_BEFORE) * CALL_INTERVAL_MS
    );
    // No usage is lost either.
    let record = json!({"op": "record_many", "tenant_id": TENANT, "metric": "walk.hung", "count": 100});
    let recorded = runner.send_command(record).await?;
    ensure!(recorded["accepted"] == 100 && recorded["rejected"] == 0, "recorded: {recorded}");

    replica.signal("CONT").await?;
    let used = wait_until(|| link.calls() > then, "the replica is not used again");
    run_load_during(&runner, &stage.key, used).await?;
    runner.close().await?;
    let first = usize::try_from(CALLS_BEFORE)?;
    Ok(passed_with(format!(
        "noticed for {} ms, {} ms at most, {waited_for_it} calls",
        measured.degraded_for_ms(first, USUAL_CALL_MS),
        measured.slowest_ms()
    )))
}

async fn wait_until(mut done: impl FnMut() -> bool, what: &str) -> anyhow::Result<()> {
    let waiting = async {
        let mut turns = interval(Duration::from_millis(5));
        while !done() {
            turns.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, waiting).await.map_err(|_| anyhow::anyhow!("{what}"))
}

fn passed_with(measured: String) -> Outcome {
    Outcome::Passed(Some(measured))
}
