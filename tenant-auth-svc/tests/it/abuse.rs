//! Nobody hurts everybody: what an attacker gets, and what a good caller beside it sees.
//!
//! Each attack is made on a service of its own, a process as it would run, and stays in place while a good caller goes on asking:
//! it must not see a single error. The table at the end says how much memory the attack took.

mod attacks;
mod full;
mod peer;
mod victim;

use std::{any::Any, fmt::Write as _};

use self::{
    attacks::Attack,
    victim::{CallerResults, ProcessLimits, Victim},
};

/// What an attack may take, in bytes: the bounds of a caller's share, and what a debug build adds to them. A batch of 1,000 keys is 57 kB
/// of its caller's share, and takes up to ten times that while all of its keys are looked up: the slower the database and the
/// machine, the more of them are at once. A third of what the chart gives a process.
const MAX_MEMORY_GROWTH: u64 = 160 * 1_024 * 1_024;

/// Few file descriptors.
const FEW_DESCRIPTORS: ProcessLimits = ProcessLimits { descriptors: Some(64) };

/// What an attack came to. It is over when this is gone.
struct AttackOutcome {
    /// What the attacker got, in words.
    description: String,
    held_resources: Box<dyn Any + Send>,
}

impl AttackOutcome {
    fn new(got: String, held: impl Any + Send) -> Self {
        Self { description: got, held_resources: Box::new(held) }
    }
}

/// One line of the table.
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
        assert!(good_caller.errors.is_empty(), "{attack}: a good caller saw {:?}", good_caller.errors);
        assert!(during - before.min(during) <= MAX_MEMORY_GROWTH, "{attack}: {before} to {during} bytes");
    }
}
