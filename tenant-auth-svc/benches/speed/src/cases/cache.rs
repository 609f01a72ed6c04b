//! The cache of keys in this process: its memory per key, and what a hit costs among few and many keys.
//!
//! Baseline is a library's cache, beside it. It is filled as a starting replica fills it, and hits are decided by the use case of the service, from the text of a
//! key to the verdict.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use quick_cache::sync::Cache as QuickCache;
use tenant_auth_svc::{
    cache::{
        CacheContext, RecordCache, batch_lookup::BatchLookup, lookup::KeyLookup,
        oldest_answer::OldestAnswerAge,
    },
    config::{ServiceConfig, Settings},
    database::{client::DatabaseClient, sql::SqlStore},
    domain::{
        cache_policy::UpstreamHealth,
        change::{ChangeEvent, ChangeKind, Invalidate as _, PerSubject},
        clock::{OptionalMillis, SharedClock, SystemClock, UnixMillis},
        grace::Grace,
        id::{KeyId, TenantId},
        identity::DatabaseIdentity,
        key::{KeyFormat, KeyHash, KeyRecord, PresentedKey},
        last_used::LastUsedTracker,
        network::AllowedNetworks,
        scope::{Scope, ScopeSet},
        tenant::{TenantSnapshot, TenantStatus},
        unknown_lookup_limiter::UnknownLookupLimiter,
        validate::Validator,
        verdict::{Revision, Verdict},
    },
    server,
};

use super::Plan;
use crate::{process::resident_bytes, table};

/// Numbers of keys, the largest at last.
const SIZES: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const KEYS_PER_TENANT: usize = 100;
const KEYS_PER_PAGE: usize = 2_000;
/// Keys that are looked up at random, of all that are cached. Their texts are prepared.
const LOOKED_UP: usize = 100_000;
const LOOKUPS: usize = 2_000_000;
/// Changes of one kind.
const CHANGES: u32 = 1_000;

type Keys = RecordCache<KeyLookup<SqlStore<DatabaseClient>>>;

/// Measures each size in a process of its own, so that no memory is used again.
pub(super) fn run(plan: &Plan) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for size in SIZES {
        let child = |what: &str| -> anyhow::Result<Vec<f64>> {
            let output = std::process::Command::new(std::env::current_exe()?)
                .args(["--rounds", &plan.rounds.to_string(), "--cache-part", &format!("{what}:{size}")])
                .stderr(std::process::Stdio::inherit())
                .output()?;
            anyhow::ensure!(output.status.success(), "the process of {what} with {size} keys has failed");
            let text = String::from_utf8(output.stdout)?;
            text.split_whitespace().map(|number| Ok(number.parse()?)).collect()
        };
        let (ours, baseline) = (child("service")?, child("baseline")?);
        let (&[bytes, hot, random, key_change, tenant_change], &[other_bytes, other_hot, other_random]) =
            (&*ours, &*baseline)
        else {
            anyhow::bail!("a process printed other numbers: {ours:?}, {baseline:?}")
        };
        lines.push(vec![
            size.to_string(),
            format!("{bytes:.0}"),
            format!("{:.2}", other_bytes / bytes),
            format!("{hot:.0} ns"),
            format!("{random:.0} ns"),
            format!("{:+.0} ns", random - hot),
            format!("{:+.0} ns", other_random - other_hot),
            format!("{key_change:.1} µs"),
            format!("{tenant_change:.1} µs"),
        ]);
    }
    table::print(
        &format!(
            "The cache in one process, {KEYS_PER_TENANT} keys per tenant; baseline: quick_cache with a record per key"
        ),
        &[
            "keys",
            "resident bytes per key",
            "baseline/this",
            "hit, one key",
            "hit, random keys",
            "… more",
            "… more, baseline",
            "a key's change",
            "a tenant's change",
        ],
        &lines,
    );
    Ok(())
}

/// Measures one size in this process, and prints the numbers. `part` is `service:SIZE` or `baseline:SIZE`.
///
/// # Errors
/// When `part` is neither, or a hit is not valid.
pub fn run_part(part: &str, rounds: usize) -> anyhow::Result<()> {
    let (what, size) = part.split_once(':').context("what:size")?;
    let numbers = match what {
        "service" => measure(rounds, size.parse()?)?,
        "baseline" => baseline(rounds, size.parse()?)?,
        _ => anyhow::bail!("no part {part}"),
    };
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    table::print_text(&numbers.join(" "));
    Ok(())
}

/// A library's cache with a record per key, as the service had it: resident bytes per key, and nanoseconds per hit of one
/// key and of random ones.
fn baseline(rounds: usize, size: usize) -> anyhow::Result<Vec<f64>> {
    let before = resident_bytes(std::process::id())?;
    let cache = QuickCache::new(size + size / 4);
    for index in 0..size {
        cache.insert(KeyHash::of(&presented(index)), Arc::new(record(index)?));
    }
    let bytes = resident_bytes(std::process::id())?.saturating_sub(before) as f64 / size as f64;
    let [hot, random] = nanos_per_hit(rounds, size, |key| {
        let found: Option<Arc<KeyRecord>> = cache.get(&KeyHash::of(key));
        found.is_some_and(|record| Verdict::of_key(&record, UnixMillis(0)) == Verdict::Valid)
    })?;
    Ok(vec![bytes, hot, random])
}

/// Resident bytes per key, nanoseconds per hit of one key and of random ones, and microseconds per change of a key and of
/// a tenant.
fn measure(rounds: usize, size: usize) -> anyhow::Result<Vec<f64>> {
    let (cache, clock) = empty(size)?;
    let before = resident_bytes(std::process::id())?;
    fill(&cache, size)?;
    let bytes = resident_bytes(std::process::id())?.saturating_sub(before) as f64 / size as f64;
    let validator = Validator::new(cache.clone(), KeyFormat::new("ta")?, clock);
    let [hot, random] = nanos_per_hit(rounds, size, |key| {
        let decision = validator.decide_from_cache(key, &ScopeSet::EMPTY, None);
        decision.is_some_and(|decision| decision.verdict == Verdict::Valid)
    })?;
    let event = |number| ChangeEvent { kind: ChangeKind::Changed, revision: Some(Revision(number)) };
    let micros = |change: &dyn Fn(usize, i64) -> PerSubject<ChangeEvent>, first: i64| {
        let begun = Instant::now();
        for number in 0..CHANGES {
            cache.apply(&change(number as usize * 7, first + i64::from(number)));
        }
        begun.elapsed().as_nanos() as f64 / f64::from(CHANGES) / 1e3
    };
    let of_keys = micros(&|index, at| PerSubject::for_key(&key_id(index), event(at)), 10);
    let of_tenants = micros(&|index, at| PerSubject::for_tenant(&tenant_id(index), event(at)), 10_000);
    Ok(vec![bytes, hot, random, of_keys, of_tenants])
}

/// The best of several rounds: of one key, and of random keys among all.
fn nanos_per_hit(
    rounds: usize,
    size: usize,
    is_valid: impl Fn(&PresentedKey) -> bool,
) -> anyhow::Result<[f64; 2]> {
    let looked_up: Vec<_> = (0..LOOKED_UP).map(|index| presented(index * (size / LOOKED_UP))).collect();
    let order = crate::service::shuffled_indices(LOOKED_UP);
    let mut best = [f64::INFINITY; 2];
    for _ in 0..rounds.max(1) {
        for (best, indices) in best.iter_mut().zip([&[0][..], &order]) {
            let begun = Instant::now();
            let valid = indices
                .iter()
                .cycle()
                .take(LOOKUPS)
                .filter(|index| looked_up.get(**index).is_some_and(|key| black_box(is_valid(key))))
                .count();
            anyhow::ensure!(valid == LOOKUPS, "{valid} of {LOOKUPS} hits are valid");
            *best = best.min(begun.elapsed().as_nanos() as f64 / LOOKUPS as f64);
        }
    }
    Ok(best)
}

/// A cache with room for `size` keys, and its clock.
fn empty(size: usize) -> anyhow::Result<(Keys, SharedClock)> {
    let clock: SharedClock = SystemClock::shared();
    // Nothing is read from it.
    let url = "http://127.0.0.1:1".to_owned();
    let settings = Settings::default()
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(url))
        .with_flag("TENANT_AUTH_CACHE_KEYS", Some((size + size / 4).to_string()));
    let config = ServiceConfig::read(settings)?.0;
    let client = server::build_database_client(config.database, &clock)?;
    let known = Arc::clone(client.known_database());
    let last_used = Arc::new(LastUsedTracker::new(Arc::clone(&clock)));
    let lookup = KeyLookup::new(SqlStore::new(client, Arc::default()), Arc::default(), last_used);
    let context = CacheContext {
        clock: Arc::clone(&clock),
        grace: Arc::new(Grace::new(config.cache.records.policy.grace)),
        // Every entry is served as stale, without a reload.
        health: Box::new(|_| UpstreamHealth::Failing { probe: false }),
        known: Arc::clone(&known),
        oldest_answer: Arc::new(OldestAnswerAge::default()),
        unknown_lookup_limiter: Arc::new(UnknownLookupLimiter::new(
            config.cache.unknown_lookup_limits,
            Arc::clone(&clock),
        )),
    };
    let lookup = BatchLookup::new(lookup, known, Duration::from_secs(1));
    Ok((RecordCache::new(lookup, config.cache.records, context), clock))
}

/// Fills the cache as a starting replica does.
fn fill(cache: &Keys, size: usize) -> anyhow::Result<()> {
    let identity = DatabaseIdentity::parse("bench 1 ").context("an identity")?;
    for first in (0..size).step_by(KEYS_PER_PAGE) {
        let page: anyhow::Result<Vec<_>> = (first..size.min(first + KEYS_PER_PAGE))
            .map(|index| Ok((*KeyHash::of(&presented(index)).as_bytes(), record(index)?)))
            .collect();
        cache.insert_preloaded(cache.start_read(), &identity, Revision(1), page?);
    }
    let records = cache.size().records;
    anyhow::ensure!(records == size as u64, "{records} of {size} keys are cached");
    Ok(())
}

/// The text of a key. Any text of the right characters is looked up.
fn presented(index: usize) -> PresentedKey {
    PresentedKey::new(format!("imported_{index:032}"))
}

fn key_id(index: usize) -> KeyId {
    KeyId::parse(&format!("key_{index:032x}")).unwrap_or_else(|_| KeyId::generate())
}

fn tenant_id(index: usize) -> TenantId {
    TenantId::parse(&format!("ten_{:032x}", index / KEYS_PER_TENANT)).unwrap_or_else(|_| TenantId::generate())
}

fn record(index: usize) -> anyhow::Result<KeyRecord> {
    let scopes = ["orders:read", "orders:write"].map(Scope::parse);
    Ok(KeyRecord {
        key_id: key_id(index).into(),
        tenant: TenantSnapshot {
            id: tenant_id(index),
            name: "Acme Corporation".into(),
            plan: "enterprise".into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::new(scopes.into_iter().collect::<Result<_, _>>()?)?.into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: OptionalMillis::NONE,
        revoked_at: OptionalMillis::NONE,
        last_used_at: Some(UnixMillis(1)).into(),
        is_disabled: false,
    })
}
