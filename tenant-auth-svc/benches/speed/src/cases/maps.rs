//! The two candidate maps for found records: one lookup, of one key and of random keys among many.

use std::{hint::black_box, sync::Arc, time::Instant};

use moka::sync::Cache as Moka;
use quick_cache::sync::Cache as QuickCache;

use super::{MANY_KEYS, MissingFigures, Plan, format_median, format_ratio, measure_round_on, table_row};
use crate::{
    round_check::{CoreRequirement, RoundCounts},
    service::shuffled_indices,
    stats::Rounds,
    table,
};

type Key = [u8; 32];

/// Lookups per round.
const LOOKUPS_PER_ROUND: usize = 1_000_000;

/// Measures on the core of this process.
pub(super) fn run(plan: &Plan, core: usize, missing: &mut MissingFigures) -> anyhow::Result<()> {
    let key = |number: usize| -> Key {
        let mut key = [0; 32];
        // As evenly distributed as the digests that the service uses as map keys.
        let (first, _) = key.split_at_mut(8);
        first.copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        key
    };
    let moka = Moka::new(2 * MANY_KEYS as u64);
    let quick = QuickCache::new(2 * MANY_KEYS);
    for number in 0..MANY_KEYS {
        let value = Arc::new([number; 32]);
        moka.insert(key(number), Arc::clone(&value));
        quick.insert(key(number), value);
    }
    moka.run_pending_tasks();
    let random: Vec<Key> = shuffled_indices(MANY_KEYS).into_iter().map(key).collect();
    let hot = vec![key(0)];
    let mut measured: [([Rounds; 2], RoundCounts); 2] = Default::default();
    for round in 0..=plan.rounds {
        for (keys, ([of_moka, of_quick], tally)) in [&hot, &random].into_iter().zip(&mut measured) {
            let go = || {
                let moka = nanos_per_lookup(keys, |key| drop(black_box(moka.get(key))));
                Ok((moka, nanos_per_lookup(keys, |key| drop(black_box(quick.get(key))))))
            };
            if round == 0 {
                let _: (f64, f64) = go()?;
                continue;
            }
            let both = tally
                .measure(|| measure_round_on(core, std::process::id(), CoreRequirement::Exclusive, go))?;
            of_moka.add(both.as_ref().map(|round| round.outcome.0));
            of_quick.add(both.as_ref().map(|round| round.outcome.1));
        }
    }
    let names = ["one key".to_owned(), format!("{MANY_KEYS} keys at random")];
    let rows = names.iter().zip(&measured);
    let lines: Vec<_> = rows
        .clone()
        .map(|(name, ([moka, quick], tally))| {
            table_row(
                name,
                tally,
                vec![format_median(moka, 0), format_median(quick, 0), format_ratio(moka, quick)],
            )
        })
        .collect();
    table::print(
        "One lookup on one thread, in nanoseconds",
        &["keys", "moka", "quick_cache", "moka/quick_cache", "rounds"],
        &lines,
    );
    missing.report(rows.map(|(name, (_, tally))| (name.as_str(), tally)));
    Ok(())
}

/// Returns nanoseconds per lookup.
fn nanos_per_lookup(keys: &[Key], look_up: impl Fn(&Key)) -> f64 {
    let begun = Instant::now();
    for key in keys.iter().cycle().take(LOOKUPS_PER_ROUND) {
        look_up(key);
    }
    begun.elapsed().as_nanos() as f64 / LOOKUPS_PER_ROUND as f64
}
