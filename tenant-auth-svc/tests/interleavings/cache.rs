//! Stands where `cache` stands in the service.

#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/entry.rs"]
mod entry;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/evicted.rs"]
mod evicted;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/fates.rs"]
mod fates;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/fence.rs"]
mod fence;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/news.rs"]
mod news;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/pool.rs"]
mod pool;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/weight.rs"]
mod weight;
mod world;
#[allow(dead_code, reason = "not every part is needed here")]
#[path = "../../src/cache/written.rs"]
mod written;

mod sync {
    pub(super) use shuttle::sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };
}

use shuttle::thread;
use tenant_auth_svc::cache::{CacheConfig, MAX_WRITTEN, PLACE};

use self::world::{Answer, World};

/// Schedules per scenario and scheduler.
const SCHEDULES: usize = 500;
/// How many forced switches the systematic scheduler places: it finds any defect that needs no more of them with a
/// probability that can be stated (Burckhardt and others, "A randomized scheduler with probabilistic guarantees of
/// finding bugs", 2010).
const SWITCHES: usize = 3;

fn explore(scenario: impl Fn() + Clone + Send + Sync + 'static) {
    shuttle::check_pct(scenario.clone(), SCHEDULES, SWITCHES);
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn no_order_of_a_load_and_a_revocation_serves_the_old_row() {
    explore(|| {
        let world = World::with_key();
        let loading = world.spawn(|world| drop(world.load()));
        world.revoke_and_tell();
        world.assert_revoked("after the news");
        loading.join().unwrap();
        world.assert_revoked("after the load");
    });
}

/// The same protocol with the epoch taken after the read: the scheduler must find the hole, or it proves nothing.
#[test]
#[should_panic(expected = "is honoured after the load")]
fn an_epoch_taken_too_late_would_be_caught() {
    explore(|| {
        let world = World::with_key();
        let loading = world.spawn(World::load_wrongly);
        world.rescope_and_tell();
        loading.join().unwrap();
        assert_ne!(world.recall(), Answer::Old, "the old row is honoured after the load");
    });
}

#[test]
fn changes_of_every_kind_against_loads_and_readers() {
    let changes: [fn(&World); 5] = [
        World::revoke_and_tell,
        World::rescope_and_tell,
        World::suspend_and_tell,
        World::rescope_by_ourselves,
        World::restore_another_log,
    ];
    for change in changes {
        explore(move || {
            let world = World::with_key();
            let loading: Vec<_> = (0..2).map(|_| world.spawn(|world| drop(world.load()))).collect();
            let changing = world.spawn(change);
            let asking = world.spawn(|world| {
                // What was told before the question must be in the answer.
                let told = world.told();
                let answer = world.ask();
                assert!(!told || answer != Answer::Old, "an old row for a question after the news");
            });
            for thread in loading.into_iter().chain([changing, asking]) {
                thread.join().unwrap();
            }
            assert_ne!(world.recall(), Answer::Old, "an old row stays behind");
            assert_ne!(world.ask(), Answer::Old);
        });
    }
}

#[test]
fn a_key_that_appears_is_found_by_whoever_asks_after_the_news() {
    for tell in [World::appear_and_tell as fn(&World), World::appear_by_ourselves] {
        explore(move || {
            let world = World::empty();
            let loading = world.spawn(|world| drop(world.load()));
            let appearing = world.spawn(tell);
            let asking = world.spawn(|world| {
                let told = world.told();
                let answer = world.ask();
                assert!(!told || answer != Answer::Absent, "absent for a question after the news");
            });
            for thread in [loading, appearing, asking] {
                thread.join().unwrap();
            }
            assert_ne!(world.recall(), Answer::Absent, "an absence stays behind");
        });
    }
}

/// The order of the above that is rarest, and was once wrong: the news find the record in memory, so they end no absence,
/// and an absence that was read before it appeared comes in last.
#[test]
fn a_late_absence_does_not_take_the_place_of_a_record() {
    let late = || {
        let world = World::empty();
        let absence = world.read();
        let revision = world.appear();
        world.load();
        world.tell_of_it(revision);
        world.settle(absence);
        assert_eq!(world.recall(), Answer::Old, "the record stays");
    };
    shuttle::check_random(late, 1);
}

/// What was read ahead moves while news arrive: it must be in one of the two places when they look.
#[test]
fn what_was_read_ahead_does_not_slip_past_the_news() {
    explore(|| {
        let world = World::with_key();
        let ahead = world.spawn(World::read_ahead);
        let changing = world.spawn(World::rescope_and_tell);
        let taking = world.spawn(World::take_ahead);
        for thread in [ahead, changing, taking] {
            thread.join().unwrap();
        }
        world.take_ahead();
        assert_ne!(world.recall(), Answer::Old);
    });
}

/// Time passes while entries are read and reloaded: one reload at a time, and none that is forgotten.
#[test]
fn one_reload_at_a_time_whoever_asks() {
    explore(|| {
        let world = World::with_key();
        world.load();
        let ageing = world.spawn(World::grow_older);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                world.spawn(|world| {
                    if world.recall_and_claim() {
                        world.reload();
                    }
                })
            })
            .collect();
        ageing.join().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(world.most_reloads_at_once() <= 1, "two reloads at once");
        // Whatever came of the reloads, the next one can be claimed when it is due.
        world.grow_older();
        assert!(world.recall_and_claim(), "a reload was claimed and never released");
    });
}

/// A database of several copies, some of which lag behind: what was heard of is never unlearned.
#[test]
fn a_lagging_copy_never_brings_back_what_was_revoked() {
    explore(|| {
        let world = World::with_key();
        let loading: Vec<_> = (0..3).map(|_| world.spawn(|world| _ = world.load_from_a_copy())).collect();
        world.revoke_and_tell();
        for _ in 0..2 {
            assert_ne!(world.load_from_a_copy(), Answer::Old, "known to be revoked");
        }
        for thread in loading {
            thread.join().unwrap();
        }
        assert_ne!(world.recall(), Answer::Old);
    });
}

type Thread = thread::JoinHandle<()>;
