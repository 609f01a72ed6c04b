//! Runs a few hundred random steps per seed against a model of what every replica may still assume.
//!
//! Three replicas, the real service in this process, share one test database in simulated time; in half of
//! the seeds, the last one reads from a read replica of it, and in a quarter it has a read URL beside the primary's. Keys are issued, imported, revoked, rotated, and
//! expire; tenants are suspended; rows are changed with SQL; usage is recorded; limits are set, changed and
//! deleted, and requests take from them, with ids, reservations and credits; responses are lost, feeds
//! stall, replicas restart, the log is pruned. The database becomes unreachable, rejects writes or reads,
//! fails in one lane, has its write lock held, lags, stalls, or is emptied, replaced or rolled back, and then
//! restored or accepted as it is. The [`oracle`] checks every single answer and every acknowledgement.
//!
//! A seed always draws the same steps. Background tasks may still run in another order, and the service draws
//! some random numbers itself, so a failure may need a few runs to reproduce.
//!
//! - `TENANT_AUTH_TEST_SEED`: runs only this seed.
//! - `TENANT_AUTH_TEST_SEEDS`: number of seeds, 16 by default.
//! - `TENANT_AUTH_TEST_STEPS`: number of steps per seed, 400 by default.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod cluster;
mod disasters;
mod history;
mod limits;
mod metering;
mod oracle;
mod read_replicas;
mod replica;
mod steps;
mod troubles;

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use self::{read_replicas::Region, replica::SeededFlaw, steps::simulate};

/// Number of steps per seed, unless the environment has another one.
const STEPS: u64 = 400;
/// Number of concurrent simulations, each in its own thread.
const MAX_CONCURRENT_SIMULATIONS: usize = 2;

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

fn run_simulation(seed: u64, steps: usize, flaw: SeededFlaw) -> Result<Vec<(String, u64)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(simulate(seed, steps, flaw))
}

#[test]
fn simulated_answers_are_all_allowed_by_oracle() {
    let steps = usize::try_from(number_from_env("TENANT_AUTH_TEST_STEPS").unwrap_or(STEPS)).unwrap();
    let (first, seeds) = match number_from_env("TENANT_AUTH_TEST_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number_from_env("TENANT_AUTH_TEST_SEEDS").unwrap_or(16)),
    };
    let next = AtomicU64::new(first);
    let answers = Mutex::new(BTreeMap::<String, u64>::new());
    let failures = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + seeds || !failures.lock().unwrap().is_empty() {
            return;
        }
        match run_simulation(seed, steps, SeededFlaw::None) {
            Ok(given) => {
                let mut answers = answers.lock().unwrap();
                given.into_iter().for_each(|(name, count)| *answers.entry(name).or_default() += count);
            }
            Err(why) => failures.lock().unwrap().push(why),
        }
    };
    thread::scope(|scope| {
        for _ in 0..MAX_CONCURRENT_SIMULATIONS {
            scope.spawn(work);
        }
    });

    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
    let answers = answers.into_inner().unwrap();
    print_uncaptured(&format!("\n{seeds} seeds, {steps} steps each: {answers:?}\n"));
    if seeds >= 10 && steps >= STEPS as usize {
        for (verdict, sources) in [
            ("valid", &["database", "fresh", "refreshing", "stale"][..]),
            ("revoked", &["database", "fresh", "refreshing", "stale"]),
            ("disabled", &["database", "fresh", "stale"]),
            ("address_not_allowed", &["database", "fresh", "stale"]),
            ("expired", &["database", "fresh", "stale"]),
            ("tenant_suspended", &["database", "fresh", "stale"]),
            ("insufficient_scope", &["database", "fresh", "stale"]),
            ("unknown", &["database", "negative"]),
        ] {
            for source in sources {
                assert!(answers.contains_key(&format!("{verdict} {source}")), "no {verdict} from {source}");
            }
        }
        for what in [
            "usage acknowledged",
            "usage refused",
            "listed",
            "not listed",
            "a read replica lags",
            "a stalled read replica is detected",
            "the database is Emptied",
            "the database is Replaced",
            "the database is RolledBack",
            "the database is RolledBackAndContinued",
            "the known database is restored",
            "a database is accepted",
            "revocations are retained",
            "limit DECIDED_BY_LEASE VERDICT_VALID",
            "limit DECIDED_BY_DATABASE VERDICT_VALID",
            "limit DECIDED_BY_LOCAL_SHARE VERDICT_VALID",
            "limit DECIDED_BY_OUTAGE_POLICY VERDICT_VALID",
            "a quota denies",
            "a rate denies",
            "limits undecided",
            "consumed once",
            "already consumed",
            "reserved",
            "settled",
            "cancelled",
            "a limit is set",
            "credits are added",
        ] {
            assert!(answers.contains_key(what), "never: {what}");
        }
    }
}

/// An oracle that allows everything would be useless: each of these flaws is detected within a few seeds.
#[test]
fn oracle_detects_each_seeded_flaw() {
    let flaws = [
        (SeededFlaw::GrantsWithoutCounting, "more than the limit"),
        (SeededFlaw::ForgetsConsumeIds, "is consumed twice"),
        (SeededFlaw::IgnoresFeed, "may still assume"),
        (SeededFlaw::OtherSetting("TENANT_AUTH_CACHE_GRACE", "4h"), "source and age"),
        (SeededFlaw::OtherSetting("TENANT_AUTH_CACHE_FRESH", "60s"), "source and age"),
        (SeededFlaw::OtherSetting("TENANT_AUTH_CACHE_NEGATIVE_TTL", "60s"), "source and age"),
        (
            SeededFlaw::OtherSetting("TENANT_AUTH_HEARTBEAT_INTERVAL", "off"),
            "the read replica has been stalled",
        ),
        (SeededFlaw::TrustsAnyDatabase, ""),
        (SeededFlaw::LosesUsage, "was acknowledged"),
        (SeededFlaw::UndoesRevocation, "did not happen"),
    ];
    for (flaw, why) in flaws {
        // Only a service whose only URL is that of a read replica needs the heartbeat to notice that it has stalled.
        let shows = |seed: &u64| !flaw.is_about_one_url() || Region::of_seed(*seed) == Region::OneUrl;
        let found = (1..=60).filter(shows).find_map(|seed| {
            run_simulation(seed, STEPS as usize, flaw).err().filter(|found| found.contains(why))
        });
        let found = found.unwrap_or_else(|| panic!("{flaw:?} was not detected"));
        print_uncaptured(&format!("{flaw:?}: {}\n", found.lines().next().unwrap_or_default()));
    }
}

/// Prints past the output capture of passing tests.
fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
