//! Takes the place of the `cache` module of the service.

#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/change_effects.rs"]
mod change_effects;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/changes.rs"]
mod changes;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/entry.rs"]
mod entry;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/fence.rs"]
mod fence;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/insertion.rs"]
mod insertion;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/loaded.rs"]
mod loaded;
mod model;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/pool.rs"]
mod pool;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/recent_writes.rs"]
mod recent_writes;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/shard.rs"]
mod shard;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/subjects.rs"]
mod subjects;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/table.rs"]
mod table;
#[allow(dead_code, reason = "this test uses only a part")]
#[path = "../../src/cache/weight.rs"]
mod weight;

mod sync {
    pub(super) use shuttle::sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    };
}

use shuttle::thread;
use tenant_auth_svc::cache::{CacheConfig, MAX_NEGATIVE_ENTRY_BYTES, MAX_RECENT_WRITES, WEIGHT_UNIT_BYTES};

use self::model::{CacheModel, CachedAnswer};

/// Schedules per scenario and scheduler.
const SCHEDULES: usize = 500;
/// Number of forced switches that the systematic scheduler places: it finds any defect that needs no more of
/// them with a known probability (Burckhardt and others, "A randomized scheduler with probabilistic
/// guarantees of finding bugs", 2010).
const MAX_FORCED_SWITCHES: usize = 3;

fn explore_schedules(scenario: impl Fn() + Clone + Send + Sync + 'static) {
    shuttle::check_pct(scenario.clone(), SCHEDULES, MAX_FORCED_SWITCHES);
    shuttle::check_random(scenario, SCHEDULES);
}

#[test]
fn load_racing_a_revocation_never_serves_old_row() {
    explore_schedules(|| {
        let model = CacheModel::with_key();
        let loading = model.spawn(|model| drop(model.load()));
        model.revoke_and_announce();
        model.assert_revoked("after the change event");
        loading.join().unwrap();
        model.assert_revoked("after the load");
    });
}

/// The same protocol with the epoch taken after the read. The scheduler must find this defect, or it proves
/// nothing.
#[test]
#[should_panic(expected = "is accepted after the load")]
fn scheduler_finds_epoch_taken_after_the_read() {
    explore_schedules(|| {
        let model = CacheModel::with_key();
        let loading = model.spawn(CacheModel::load_with_late_epoch);
        model.rescope_and_announce();
        loading.join().unwrap();
        assert_ne!(model.get(), CachedAnswer::Old, "the old row is accepted after the load");
    });
}

#[test]
fn no_change_kind_leaves_old_row_in_cache() {
    let changes: [fn(&CacheModel); 5] = [
        CacheModel::revoke_and_announce,
        CacheModel::rescope_and_announce,
        CacheModel::suspend_and_announce,
        CacheModel::rescope_locally,
        CacheModel::restore_other_log,
    ];
    for change in changes {
        explore_schedules(move || {
            let model = CacheModel::with_key();
            let loading: Vec<_> = (0..2).map(|_| model.spawn(|model| drop(model.load()))).collect();
            let changing = model.spawn(change);
            let looking_up = model.spawn(|model| {
                // A change announced before the request must be in the answer.
                let announced = model.was_announced();
                let answer = model.lookup();
                assert!(
                    !announced || answer != CachedAnswer::Old,
                    "an old row for a request after the change event"
                );
            });
            for thread in loading.into_iter().chain([changing, looking_up]) {
                thread.join().unwrap();
            }
            assert_ne!(model.get(), CachedAnswer::Old, "an old row stays cached");
            assert_ne!(model.lookup(), CachedAnswer::Old);
        });
    }
}

#[test]
fn new_key_is_found_after_its_change_event() {
    for tell in [CacheModel::insert_key_and_announce as fn(&CacheModel), CacheModel::insert_key_locally] {
        explore_schedules(move || {
            let model = CacheModel::empty();
            let loading = model.spawn(|model| drop(model.load()));
            let appearing = model.spawn(tell);
            let looking_up = model.spawn(|model| {
                let announced = model.was_announced();
                let answer = model.lookup();
                assert!(
                    !announced || answer != CachedAnswer::Negative,
                    "a negative answer to a request after the change event"
                );
            });
            for thread in [loading, appearing, looking_up] {
                thread.join().unwrap();
            }
            assert_ne!(model.get(), CachedAnswer::Negative, "a negative entry stays cached");
        });
    }
}

/// The rarest of these orders, which was once handled wrongly: the change event finds the record in the cache
/// and so invalidates no negative entry, and a negative result that was read before the key was created
/// arrives last.
#[test]
fn late_negative_entry_does_not_replace_record() {
    let late = || {
        let model = CacheModel::empty();
        let negative = model.read();
        let revision = model.insert_key();
        model.load();
        model.announce_new_key(revision);
        model.apply_load(negative);
        assert_eq!(model.get(), CachedAnswer::Old, "the record stays cached");
    };
    shuttle::check_random(late, 1);
}

/// A preloaded record moves while a change event is applied: the event must find it in one of the two places.
#[test]
fn preloaded_record_does_not_miss_change_event() {
    explore_schedules(|| {
        let model = CacheModel::with_key();
        let preloading = model.spawn(CacheModel::preload);
        let changing = model.spawn(CacheModel::rescope_and_announce);
        let taking = model.spawn(CacheModel::take_preloaded);
        for thread in [preloading, changing, taking] {
            thread.join().unwrap();
        }
        model.take_preloaded();
        assert_ne!(model.get(), CachedAnswer::Old);
    });
}

/// Time advances while entries are read and reloaded: there is one reload at a time, and none is lost.
#[test]
fn concurrent_readers_trigger_one_reload_at_a_time() {
    explore_schedules(|| {
        let model = CacheModel::with_key();
        model.load();
        let ageing = model.spawn(CacheModel::advance_time);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                model.spawn(|model| {
                    if model.get_and_claim_reload() {
                        model.reload();
                    }
                })
            })
            .collect();
        ageing.join().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(model.max_concurrent_reloads() <= 1, "two reloads at once");
        // Whatever the outcome of the reloads, the next one can be claimed when it is due.
        model.advance_time();
        assert!(model.get_and_claim_reload(), "a reload was claimed and never released");
    });
}

/// Some read replicas of the database lag behind: a change that was applied is never undone.
#[test]
fn lagging_copy_never_restores_revoked_key() {
    explore_schedules(|| {
        let model = CacheModel::with_key();
        let loading: Vec<_> = (0..3).map(|_| model.spawn(|model| _ = model.load_from_copy())).collect();
        model.revoke_and_announce();
        for _ in 0..2 {
            assert_ne!(model.load_from_copy(), CachedAnswer::Old, "the revocation was applied");
        }
        for thread in loading {
            thread.join().unwrap();
        }
        assert_ne!(model.get(), CachedAnswer::Old);
    });
}

type Thread = thread::JoinHandle<()>;
