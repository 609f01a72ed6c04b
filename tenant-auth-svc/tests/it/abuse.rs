//! Tests that an attacker does not harm other callers: each test measures the attack and a well-behaved
//! caller next to it.
//!
//! Each attack runs against its own service process, started as in production, and stays in place while a
//! well-behaved caller keeps sending requests. That caller must not see a single error. The table printed at
//! the end shows how much memory each attack used.

mod attacks;
mod full;

use std::fmt::Write as _;

use self::attacks::{Attack, AttackOutcome};
use crate::harness::victim::{CallerResults, Victim};

/// Maximum memory that an attack may use, in bytes: the limits of one caller's share, plus the overhead of a
/// debug build. A batch of 1,000 keys counts as 57 kB of its caller's share and uses up to ten times that
/// while all of its keys are looked up; the slower the database and the machine, the more of these batches
/// overlap. The value is a third of the memory that the chart gives a process.
const MAX_MEMORY_GROWTH: u64 = 160 * 1_024 * 1_024;

/// One row of the printed table.
struct AttackRow {
    attack: &'static str,
    description: String,
    good_caller: CallerResults,
    /// Resident memory before, during and after, in bytes.
    resident_memory: [u64; 3],
}

async fn run_attack(attack: &Attack) -> AttackRow {
    let victim = Victim::start(attack.limits).await;
    let mut seen = CallerResults::default();
    victim.run_good_calls(&mut seen).await;
    let before = victim.resident_memory();
    let outcome = attack.run(&victim).await;
    for _ in 0..5 {
        victim.run_good_calls(&mut seen).await;
    }
    let during = victim.resident_memory();
    let AttackOutcome { description: got, held_resources: held } = outcome;
    drop(held);
    victim.run_good_calls(&mut seen).await;
    AttackRow {
        attack: attack.name,
        description: got,
        good_caller: seen,
        resident_memory: [before, during, victim.resident_memory()],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_cause_no_errors_for_other_callers() {
    let mut rows = Vec::new();
    for attack in attacks::ALL {
        rows.push(run_attack(attack).await);
    }
    let mib = |bytes: u64| bytes as f64 / (1_024.0 * 1_024.0);
    let mut table = format!(
        "{:44} {:>8} {:>7} {:>8} {:>8} {:>8}  the attacker gets\n",
        "attack", "answers", "errors", "MiB", "during", "after"
    );
    for AttackRow { attack, description, good_caller, resident_memory } in &rows {
        let [before, during, after] = resident_memory.map(mib);
        let (answers, errors) = (good_caller.answers, good_caller.errors.len());
        writeln!(
            table,
            "{attack:44} {answers:8} {errors:7} {before:8.1} {during:8.1} {after:8.1}  {description}"
        )
        .unwrap();
    }
    println!("{table}");
    for AttackRow { attack, good_caller, resident_memory: [before, during, _], .. } in &rows {
        assert!(
            good_caller.errors.is_empty(),
            "{attack}: the well-behaved caller saw {:?}",
            good_caller.errors
        );
        assert!(during - before.min(during) <= MAX_MEMORY_GROWTH, "{attack}: {before} to {during} bytes");
    }
}
