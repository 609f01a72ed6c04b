//! One key, one database, one memory, and what may happen between them.

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
    pool::{Loaded, Pool, Recalled, Settled},
};
use crate::domain::{
    change::{BySubject, Fate, News},
    clock::UnixMillis,
    freshness::{self, Lifetimes},
    grace::Grace,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyRecord},
    knowledge::Knowledge,
    scope::{Scope, ScopeSet},
    tenant::TenantStatus,
    verdict::Revision,
};

const DIGEST: [u8; 32] = [7; 32];

/// What an answer says, as far as the scenarios care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The key as it was before the change.
    Old,
    /// The key as it is after it.
    New,
    Absent,
    /// Memory has nothing to say.
    Nothing,
}

#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

struct Inner {
    pool: Pool<KeyHash, KeyRecord>,
    database: Mutex<Database>,
    told: AtomicBool,
    now: AtomicU64,
    reloads: AtomicU64,
    most_reloads: AtomicU64,
}

#[derive(Clone)]
struct Database {
    revision: i64,
    row: Option<KeyRecord>,
    /// What a copy that lags behind would answer.
    before: Option<(i64, Option<KeyRecord>)>,
}

impl World {
    pub(super) fn with_key() -> Self {
        Self::new(Some(row()))
    }

    pub(super) fn empty() -> Self {
        Self::new(None)
    }

    fn new(row: Option<KeyRecord>) -> Self {
        let lifetimes = Lifetimes {
            fresh: Duration::from_secs(5),
            refresh: Duration::from_secs(60),
            grace: Duration::from_secs(3_600),
        };
        let config = CacheConfig {
            keys: 100,
            absences: 100,
            lifetimes,
            absent: Duration::from_secs(5),
            reuse_watched: Duration::from_secs(60),
        };
        Self(Arc::new(Inner {
            pool: Pool::new(config, Arc::new(Grace::new(lifetimes.grace))),
            database: Mutex::new(Database { revision: 1, row, before: None }),
            told: AtomicBool::new(false),
            now: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            most_reloads: AtomicU64::new(0),
        }))
    }

    pub(super) fn spawn(&self, act: impl FnOnce(&Self) + Send + 'static) -> Thread {
        let world = self.clone();
        thread::spawn(move || act(&world))
    }

    pub(super) fn told(&self) -> bool {
        self.0.told.load(Ordering::SeqCst)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.now.load(Ordering::SeqCst))
    }

    pub(super) fn grow_older(&self) {
        self.0.now.fetch_add(10, Ordering::SeqCst);
    }

    // Loads and answers.

    pub(super) fn load(&self) -> Settled<KeyRecord> {
        self.settle(self.read())
    }

    pub(super) fn read(&self) -> Loaded<KeyRecord> {
        let (began, loaded_at) = (self.0.pool.epoch(), self.now());
        let Database { revision, row, .. } = self.0.database.lock().unwrap().clone();
        Loaded { record: row, revision: Revision(revision), loaded_at, began, lags: false }
    }

    pub(super) fn load_wrongly(&self) {
        let loaded_at = self.now();
        let Database { revision, row, .. } = self.0.database.lock().unwrap().clone();
        let began = self.0.pool.epoch();
        // As if the log's position were unknown: by it alone the fence would still hold.
        let revision = Revision(revision + 100);
        self.settle(Loaded { record: row, revision, loaded_at, began, lags: false });
    }

    pub(super) fn load_from_a_copy(&self) -> Answer {
        let (began, loaded_at) = (self.0.pool.epoch(), self.now());
        let database = self.0.database.lock().unwrap().clone();
        let (revision, record) = match database.before {
            Some(before) if shuttle::rand::thread_rng().gen_bool(0.5) => before,
            _ => (database.revision, database.row),
        };
        let settled =
            self.settle(Loaded { record, revision: Revision(revision), loaded_at, began, lags: false });
        said(&settled.knowledge)
    }

    pub(super) fn settle(&self, loaded: Loaded<KeyRecord>) -> Settled<KeyRecord> {
        self.0.pool.settle(&id(), loaded, 128, self.now())
    }

    /// As a caller does: memory, or a load; again, if news have overtaken that.
    pub(super) fn ask(&self) -> Answer {
        let asked = self.0.pool.epoch();
        match self.recall() {
            Answer::Nothing => {}
            answer => return answer,
        }
        loop {
            let settled = self.load();
            if settled.overtaken.is_none_or(|overtaken| asked < overtaken) {
                return said(&settled.knowledge);
            }
        }
    }

    pub(super) fn recall(&self) -> Answer {
        match self.0.pool.recall(&id(), self.now(), || freshness::World::Heard) {
            Recalled::Known(knowledge) => said(&knowledge),
            Recalled::Due(knowledge) => {
                self.0.pool.release_reload(&id());
                said(&knowledge)
            }
            Recalled::Nothing => Answer::Nothing,
        }
    }

    pub(super) fn assert_revoked(&self, when: &str) {
        assert_eq!(self.ask(), Answer::New, "{when}");
    }

    pub(super) fn recall_and_claim(&self) -> bool {
        matches!(self.0.pool.recall(&id(), self.now(), || freshness::World::Heard), Recalled::Due(_))
    }

    pub(super) fn reload(&self) {
        let at_once = self.0.reloads.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_reloads.fetch_max(at_once, Ordering::SeqCst);
        // Every other one fails.
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            self.load();
        }
        self.0.reloads.fetch_sub(1, Ordering::SeqCst);
        self.0.pool.release_reload(&id());
    }

    pub(super) fn most_reloads_at_once(&self) -> u64 {
        self.0.most_reloads.load(Ordering::SeqCst)
    }

    pub(super) fn read_ahead(&self) {
        let loaded = self.read();
        self.0.pool.settle_ahead(DIGEST, loaded);
    }

    pub(super) fn take_ahead(&self) {
        self.0.pool.take_ahead(&id(), || vec![DIGEST]);
    }

    // Changes.

    pub(super) fn revoke_and_tell(&self) {
        let at = UnixMillis(1);
        let revision = self.change(|row| row.revoked_at = Some(at));
        self.tell(&key_news(Fate::Revoked(at), Some(revision)));
    }

    pub(super) fn rescope_and_tell(&self) {
        let revision = self.change(|row| row.scopes = ScopeSet::EMPTY);
        self.tell(&key_news(Fate::Changed, Some(revision)));
    }

    pub(super) fn rescope_by_ourselves(&self) {
        self.change(|row| row.scopes = ScopeSet::EMPTY);
        self.tell(&key_news(Fate::Changed, None));
    }

    pub(super) fn suspend_and_tell(&self) {
        let revision = self.change(|row| row.tenant_status = TenantStatus::Suspended);
        let news = News { fate: Fate::Suspended, revision: Some(revision) };
        self.tell(&BySubject::tenant(&tenant(), news));
    }

    /// The database is restored: the row is another one, and the log begins anew.
    pub(super) fn restore_another_log(&self) {
        {
            let mut database = self.0.database.lock().unwrap();
            database.revision = 0;
            if let Some(row) = &mut database.row {
                row.scopes = ScopeSet::EMPTY;
            }
        }
        self.0.pool.verify_all();
        self.0.told.store(true, Ordering::SeqCst);
    }

    pub(super) fn appear_and_tell(&self) {
        let revision = self.appear();
        self.tell_of_it(revision);
    }

    pub(super) fn tell_of_it(&self, revision: Revision) {
        self.tell(&key_news(Fate::Changed, Some(revision)));
    }

    pub(super) fn appear_by_ourselves(&self) {
        self.appear();
        self.0.pool.added(&[id()], None);
        self.0.told.store(true, Ordering::SeqCst);
    }

    pub(super) fn appear(&self) -> Revision {
        let mut database = self.0.database.lock().unwrap();
        database.revision += 1;
        database.row = Some(row());
        Revision(database.revision)
    }

    fn change(&self, change: impl FnOnce(&mut KeyRecord)) -> Revision {
        let mut database = self.0.database.lock().unwrap();
        database.before = Some((database.revision, database.row.clone()));
        database.revision += 1;
        if let Some(row) = &mut database.row {
            change(row);
        }
        Revision(database.revision)
    }

    fn tell(&self, news: &BySubject<News>) {
        self.0.pool.hear(news);
        self.0.told.store(true, Ordering::SeqCst);
    }
}

fn key_news(fate: Fate, revision: Option<Revision>) -> BySubject<News> {
    BySubject::key(&KeyId::parse("key_1").unwrap(), News { fate, revision })
}

fn id() -> KeyHash {
    KeyHash::from_bytes([1; 32])
}

fn tenant() -> TenantId {
    TenantId::parse("ten_1").unwrap()
}

fn row() -> KeyRecord {
    KeyRecord {
        key_id: KeyId::parse("key_1").unwrap(),
        tenant_id: tenant(),
        tenant_name: "Acme".into(),
        plan: "pro".into(),
        tenant_status: TenantStatus::Active,
        scopes: ScopeSet::new(vec![Scope::parse("a").unwrap()]).unwrap(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn said(knowledge: &Knowledge<KeyRecord>) -> Answer {
    match knowledge.record.as_deref() {
        None => Answer::Absent,
        Some(record) if *record == row() => Answer::Old,
        Some(_) => Answer::New,
    }
}
