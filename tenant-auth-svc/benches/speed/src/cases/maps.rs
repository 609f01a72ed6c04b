//! The two maps that could hold what is found: one lookup, of one key and of many at random.

use std::{hint::black_box, sync::Arc, time::Instant};

use moka::sync::Cache as Moka;
use quick_cache::sync::Cache as QuickCache;

use super::{MANY, Plan, ratio, shown};
use crate::{service::shuffled, stats::Rounds, table};

type Key = [u8; 32];

/// Lookups of one round.
const LOOKUPS: usize = 1_000_000;

pub(super) fn run(plan: &Plan) {
    let key = |number: usize| -> Key {
        let mut key = [0; 32];
        // As spread as the digests that stand there in the service.
        let (first, _) = key.split_at_mut(8);
        first.copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        key
    };
    let moka = Moka::new(2 * MANY as u64);
    let quick = QuickCache::new(2 * MANY);
    for number in 0..MANY {
        let value = Arc::new([number; 32]);
        moka.insert(key(number), Arc::clone(&value));
        quick.insert(key(number), value);
    }
    moka.run_pending_tasks();
    let random: Vec<Key> = shuffled(MANY).into_iter().map(key).collect();
    let hot = vec![key(0)];
    let mut measured: [[Rounds; 2]; 2] = Default::default();
    for round in 0..=plan.rounds {
        for (keys, [of_moka, of_quick]) in [&hot, &random].into_iter().zip(&mut measured) {
            let moka = each(keys, |key| drop(black_box(moka.get(key))));
            let quick = each(keys, |key| drop(black_box(quick.get(key))));
            if round > 0 {
                of_moka.add(moka);
                of_quick.add(quick);
            }
        }
    }
    let [hot, random] = &measured;
    let line = |name: &str, [moka, quick]: &[Rounds; 2]| {
        vec![name.to_owned(), shown(moka, 0), shown(quick, 0), ratio(moka, quick)]
    };
    let lines = [line("one key", hot), line(&format!("{MANY} keys at random"), random)];
    table::print(
        "One lookup, on one thread, by nanoseconds",
        &["keys", "moka", "quick_cache", "moka/quick_cache"],
        &lines,
    );
}

/// Nanoseconds a lookup.
fn each(keys: &[Key], look_up: impl Fn(&Key)) -> f64 {
    let begun = Instant::now();
    for key in keys.iter().cycle().take(LOOKUPS) {
        look_up(key);
    }
    begun.elapsed().as_nanos() as f64 / LOOKUPS as f64
}
