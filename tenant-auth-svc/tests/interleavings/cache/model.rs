//! One key, one database, one cache, and the operations between them.

use std::{sync::Arc, time::Duration};

use shuttle::{
    rand::Rng as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{
    CacheConfig, Thread,
    loaded::{AppliedLoad, LoadedRecord},
    pool::{Pool, PoolLookup},
};
use crate::domain::{
    cache_policy::{self, CachePolicy},
    change::{ChangeEvent, ChangeKind, PerSubject},
    clock::{OptionalMillis, UnixMillis},
    grace::Grace,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyRecord},
    network::AllowedNetworks,
    record_source::CachedRecord,
    scope::{Scope, ScopeSet},
    tenant::{TenantSnapshot, TenantStatus},
    verdict::Revision,
};

const DIGEST: [u8; 32] = [7; 32];

/// An answer, reduced to what the scenarios check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CachedAnswer {
    /// The key before the change.
    Old,
    /// The key after the change.
    New,
    Negative,
    /// The cache has no answer.
    NotCached,
}

#[derive(Clone)]
pub(super) struct CacheModel(Arc<ModelState>);

struct ModelState {
    pool: Pool<KeyHash, KeyRecord>,
    database: Mutex<ModelDatabase>,
    is_announced: AtomicBool,
    now: AtomicU64,
    reloads: AtomicU64,
    max_concurrent_reloads: AtomicU64,
}

#[derive(Clone)]
struct ModelDatabase {
    revision: i64,
    row: Option<KeyRecord>,
    /// The answer of a lagging read replica.
    previous: Option<(i64, Option<KeyRecord>)>,
}

impl CacheModel {
    pub(super) fn with_key() -> Self {
        Self::new(Some(key_record()))
    }

    pub(super) fn empty() -> Self {
        Self::new(None)
    }

    fn new(row: Option<KeyRecord>) -> Self {
        let policy = CachePolicy {
            fresh: Duration::from_secs(5),
            stale_while_revalidate: Duration::from_secs(60),
            grace: Duration::from_secs(3_600),
            negative_ttl: Duration::from_secs(5),
            reuse_watched: Duration::from_secs(60),
        };
        let config = CacheConfig { max_records: 100, max_negative_entries: 100, policy };
        Self(Arc::new(ModelState {
            pool: Pool::new(config, Arc::new(Grace::new(policy.grace))),
            database: Mutex::new(ModelDatabase { revision: 1, row, previous: None }),
            is_announced: AtomicBool::new(false),
            now: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            max_concurrent_reloads: AtomicU64::new(0),
        }))
    }

    pub(super) fn spawn(&self, act: impl FnOnce(&Self) + Send + 'static) -> Thread {
        let model = self.clone();
        thread::spawn(move || act(&model))
    }

    pub(super) fn was_announced(&self) -> bool {
        self.0.is_announced.load(Ordering::SeqCst)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.now.load(Ordering::SeqCst))
    }

    pub(super) fn advance_time(&self) {
        self.0.now.fetch_add(10, Ordering::SeqCst);
    }

    // Loads and answers.

    pub(super) fn load(&self) -> AppliedLoad<KeyRecord> {
        self.apply_load(self.read())
    }

    pub(super) fn read(&self) -> LoadedRecord<KeyRecord> {
        let (epoch, loaded_at) = (self.0.pool.epoch(), self.now());
        let ModelDatabase { revision, row, .. } = self.0.database.lock().unwrap().clone();
        LoadedRecord { record: row, revision: Revision(revision), loaded_at, epoch, is_lagging: false }
    }

    pub(super) fn load_with_late_epoch(&self) {
        let loaded_at = self.now();
        let ModelDatabase { revision, row, .. } = self.0.database.lock().unwrap().clone();
        let epoch = self.0.pool.epoch();
        // As if the position in the log were unknown: the position alone would let the fence accept the load.
        let revision = Revision(revision + 100);
        self.apply_load(LoadedRecord { record: row, revision, loaded_at, epoch, is_lagging: false });
    }

    pub(super) fn load_from_copy(&self) -> CachedAnswer {
        let (epoch, loaded_at) = (self.0.pool.epoch(), self.now());
        let database = self.0.database.lock().unwrap().clone();
        let (revision, record) = match database.previous {
            Some(before) if shuttle::rand::thread_rng().gen_bool(0.5) => before,
            _ => (database.revision, database.row),
        };
        let applied = self.apply_load(LoadedRecord {
            record,
            revision: Revision(revision),
            loaded_at,
            epoch,
            is_lagging: false,
        });
        answer_of(&applied.cached)
    }

    pub(super) fn apply_load(&self, loaded: LoadedRecord<KeyRecord>) -> AppliedLoad<KeyRecord> {
        self.0.pool.apply_load(&key_hash(), loaded, 128, self.now())
    }

    /// Looks the key up as a caller does: from the cache, or with a load that is repeated if a change event
    /// has superseded it.
    pub(super) fn lookup(&self) -> CachedAnswer {
        let requested_at = self.0.pool.epoch();
        match self.get() {
            CachedAnswer::NotCached => {}
            answer => return answer,
        }
        loop {
            let applied = self.load();
            if applied.superseded_at.is_none_or(|superseded_at_epoch| requested_at < superseded_at_epoch) {
                return answer_of(&applied.cached);
            }
        }
    }

    pub(super) fn get(&self) -> CachedAnswer {
        match self.0.pool.get(&key_hash(), self.now(), || cache_policy::UpstreamHealth::Healthy) {
            PoolLookup::Hit(hit) => answer_of(&hit),
            PoolLookup::HitNeedsReload(hit) => {
                self.0.pool.release_reload(&key_hash());
                answer_of(&hit)
            }
            PoolLookup::Miss => CachedAnswer::NotCached,
        }
    }

    pub(super) fn assert_revoked(&self, when: &str) {
        assert_eq!(self.lookup(), CachedAnswer::New, "{when}");
    }

    pub(super) fn get_and_claim_reload(&self) -> bool {
        matches!(
            self.0.pool.get(&key_hash(), self.now(), || cache_policy::UpstreamHealth::Healthy),
            PoolLookup::HitNeedsReload(_)
        )
    }

    pub(super) fn reload(&self) {
        let at_once = self.0.reloads.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.max_concurrent_reloads.fetch_max(at_once, Ordering::SeqCst);
        // Every second load fails.
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            self.load();
        }
        self.0.reloads.fetch_sub(1, Ordering::SeqCst);
        self.0.pool.release_reload(&key_hash());
    }

    pub(super) fn max_concurrent_reloads(&self) -> u64 {
        self.0.max_concurrent_reloads.load(Ordering::SeqCst)
    }

    pub(super) fn preload(&self) {
        let loaded = self.read();
        self.0.pool.insert_preloaded(DIGEST, loaded);
    }

    pub(super) fn take_preloaded(&self) {
        self.0.pool.promote_preloaded(&key_hash(), || vec![DIGEST]);
    }

    // Changes.

    pub(super) fn revoke_and_announce(&self) {
        let at = UnixMillis(1);
        let revision = self.change_row(|row| row.revoked_at = Some(at).into());
        self.announce(&key_change_event(ChangeKind::Revoked(at), Some(revision)));
    }

    pub(super) fn rescope_and_announce(&self) {
        let revision = self.change_row(|row| row.scopes = ScopeSet::EMPTY.into());
        self.announce(&key_change_event(ChangeKind::Changed, Some(revision)));
    }

    pub(super) fn rescope_locally(&self) {
        self.change_row(|row| row.scopes = ScopeSet::EMPTY.into());
        self.announce(&key_change_event(ChangeKind::Changed, None));
    }

    pub(super) fn suspend_and_announce(&self) {
        let revision = self.change_row(|row| Arc::make_mut(&mut row.tenant).status = TenantStatus::Suspended);
        let event = ChangeEvent { kind: ChangeKind::Suspended, revision: Some(revision) };
        self.announce(&PerSubject::for_tenant(&tenant_id(), event));
    }

    /// Restores another database: the row differs, and the log starts again.
    pub(super) fn restore_other_log(&self) {
        {
            let mut database = self.0.database.lock().unwrap();
            database.revision = 0;
            if let Some(row) = &mut database.row {
                row.scopes = ScopeSet::EMPTY.into();
            }
        }
        self.0.pool.require_revalidation();
        self.0.is_announced.store(true, Ordering::SeqCst);
    }

    pub(super) fn insert_key_and_announce(&self) {
        let revision = self.insert_key();
        self.announce_new_key(revision);
    }

    pub(super) fn announce_new_key(&self, revision: Revision) {
        self.announce(&key_change_event(ChangeKind::Changed, Some(revision)));
    }

    pub(super) fn insert_key_locally(&self) {
        self.insert_key();
        self.0.pool.invalidate_negative(&[key_hash()], None);
        self.0.is_announced.store(true, Ordering::SeqCst);
    }

    pub(super) fn insert_key(&self) -> Revision {
        let mut database = self.0.database.lock().unwrap();
        database.revision += 1;
        database.row = Some(key_record());
        Revision(database.revision)
    }

    fn change_row(&self, change: impl FnOnce(&mut KeyRecord)) -> Revision {
        let mut database = self.0.database.lock().unwrap();
        database.previous = Some((database.revision, database.row.clone()));
        database.revision += 1;
        if let Some(row) = &mut database.row {
            change(row);
        }
        Revision(database.revision)
    }

    fn announce(&self, event: &PerSubject<ChangeEvent>) {
        self.0.pool.apply(event, UnixMillis(0));
        self.0.is_announced.store(true, Ordering::SeqCst);
    }
}

fn key_change_event(change_kind: ChangeKind, revision: Option<Revision>) -> PerSubject<ChangeEvent> {
    PerSubject::for_key(&KeyId::parse("key_1").unwrap(), ChangeEvent { kind: change_kind, revision })
}

fn key_hash() -> KeyHash {
    KeyHash::from_bytes([1; 32])
}

fn tenant_id() -> TenantId {
    TenantId::parse("ten_1").unwrap()
}

fn key_record() -> KeyRecord {
    KeyRecord {
        key_id: KeyId::parse("key_1").unwrap().into(),
        tenant: TenantSnapshot {
            id: tenant_id(),
            name: "Acme".into(),
            plan: "pro".into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::new(vec![Scope::parse("a").unwrap()]).unwrap().into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: OptionalMillis::NONE,
        revoked_at: OptionalMillis::NONE,
        last_used_at: OptionalMillis::NONE,
        is_disabled: false,
    }
}

fn answer_of(hit: &CachedRecord<KeyRecord>) -> CachedAnswer {
    match hit.record.as_ref() {
        None => CachedAnswer::Negative,
        Some(record) if *record == key_record() => CachedAnswer::Old,
        Some(_) => CachedAnswer::New,
    }
}
