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
    victim::{Limits, Seen, Victim},
};

/// What an attack may take, in bytes: the bounds of a caller's share, and what a debug build adds to them. A batch of 1,000 keys is 57 kB
/// of its caller's share, and takes up to ten times that while all of its keys are looked up: the slower the database and the
/// machine, the more of them are at once. A third of what the chart gives a process.
const MOST: u64 = 160 * 1_024 * 1_024;

/// Few file descriptors.
const FEW_DESCRIPTORS: Limits = Limits { descriptors: Some(64) };

/// What an attack came to. It is over when this is gone.
struct Outcome {
    /// What the attacker got, in words.
    got: String,
    held: Box<dyn Any + Send>,
}

impl Outcome {
    fn new(got: String, held: impl Any + Send) -> Self {
        Self { got, held: Box::new(held) }
    }
}

/// One line of the table.
struct Row {
    attack: &'static str,
    got: String,
    seen: Seen,
    /// Resident memory before, during and after, in bytes.
    memory: [u64; 3],
}

async fn suffer(attack: &Attack) -> Row {
    let victim = Victim::start(attack.limits).await;
    let mut seen = Seen::default();
    victim.ask(&mut seen).await;
    let before = victim.memory();
    let outcome = attack.run(&victim).await;
    for _ in 0..5 {
        victim.ask(&mut seen).await;
    }
    let during = victim.memory();
    let Outcome { got, held } = outcome;
    drop(held);
    victim.ask(&mut seen).await;
    Row { attack: attack.name, got, seen, memory: [before, during, victim.memory()] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hurts_everybody() {
    let mut rows = Vec::new();
    for attack in attacks::ALL {
        rows.push(suffer(attack).await);
    }
    let mib = |bytes: u64| bytes as f64 / (1_024.0 * 1_024.0);
    let mut table = format!(
        "{:44} {:>8} {:>7} {:>8} {:>8} {:>8}  the attacker gets\n",
        "attack", "answers", "errors", "MiB", "during", "after"
    );
    for Row { attack, got, seen, memory } in &rows {
        let [before, during, after] = memory.map(mib);
        let (answers, errors) = (seen.answers, seen.errors.len());
        writeln!(table, "{attack:44} {answers:8} {errors:7} {before:8.1} {during:8.1} {after:8.1}  {got}")
            .unwrap();
    }
    println!("{table}");
    for Row { attack, seen, memory: [before, during, _], .. } in &rows {
        assert!(seen.errors.is_empty(), "{attack}: a good caller saw {:?}", seen.errors);
        assert!(during - before.min(during) <= MOST, "{attack}: {before} to {during} bytes");
    }
}
