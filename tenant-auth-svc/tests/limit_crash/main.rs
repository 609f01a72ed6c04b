//! Checks that limits are kept when replicas and the database are killed or paused at any time.
//!
//! Five replicas and their database run as processes. Clients take from the limits of 200 tenants through replicas at random,
//! with and without ids, and with reservations. At random times SIGKILL ends a replica or the database, which are restarted on
//! the same port and file, and SIGSTOP pauses a replica. Once, the database is down while its clock advances by an hour. At the
//! end, what clients know is compared with the limits and with what the database has counted.
//!
//! A seed always draws the same requests and times, but what happens in between depends on the machine: the same seed need not
//! reproduce a failure.
//!
//! - `TENANT_AUTH_TEST_SEED`: this seed; without it, a different one each time.
//! - `TENANT_AUTH_TEST_CRASHES`: number of kills, 40 by default.
//! - `TENANT_AUTH_TEST_PAUSES`: number of pauses, 10 by default.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod client_log;
mod cluster;
#[path = "../processes/database.rs"]
mod database;
mod doctored;
mod drain;
mod oracle;
mod outcomes;
mod population;
#[path = "../processes/process.rs"]
mod process;
mod report;
mod reservations;
mod run;
#[path = "../processes/settings.rs"]
mod settings;
mod setup;
mod stored;
mod traffic;

use self::{
    run::{Plan, run},
    settings::{number_from_env, print_uncaptured},
};

#[test]
fn no_limit_is_exceeded_across_kills_pauses_and_outages() {
    let number = |name, default| usize::try_from(number_from_env(name).unwrap_or(default)).unwrap();
    let seed = number_from_env("TENANT_AUTH_TEST_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let plan = Plan {
        kills: number("TENANT_AUTH_TEST_CRASHES", 40),
        pauses: number("TENANT_AUTH_TEST_PAUSES", 10),
        seed,
    };
    print_uncaptured(&format!(
        "\nTENANT_AUTH_TEST_SEED={seed} TENANT_AUTH_TEST_CRASHES={} TENANT_AUTH_TEST_PAUSES={}\n",
        plan.kills, plan.pauses
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (evidence, troubles) = runtime.block_on(run(plan));
    let findings = evidence.check();
    report::print(&evidence, &findings, troubles);
    assert!(findings.errors.is_empty(), "{} errors:\n{}", findings.errors.len(), findings.errors.join("\n"));
    assert!(troubles.mid_flight * 2 >= plan.kills, "only {} kills interrupted requests", troubles.mid_flight);
}
