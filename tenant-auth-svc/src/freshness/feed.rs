//! The change feed: reads the database's change log every quarter of a second and makes memory forget.
//!
//! One read over the log's primary key per poll, whatever happened: at the default interval 14,400 an hour and replica,
//! of three index entries each while idle.

mod prune;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use super::hub::Hub;
use crate::{
    domain::{
        change::{BySubject, Fate, Forget, News},
        clock::{SharedClock, UnixMillis},
        id::{KeyId, TenantId},
        session::SessionId,
        store::{Call, FailureKind, Lane, StoreError},
        verdict::Revision,
        watch::{Invalidation, Subject},
    },
    measure::counts::Counter,
    store::engine::{Engine, Row, Statement},
};

/// After this long without a successful read the feed vouches for nothing.
pub const SILENCE: Duration = Duration::from_secs(1);
/// How long one read may take at most. Shorter than [`SILENCE`]: a hanging one must not be the reason for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most events of one read. More are read at once after it.
const MOST: usize = 1_000;

/// Everything after a position, and whether the log is still the one that the position was taken from: the entry at
/// it (if it is gone, the last one before it), and the log's first and last; for what has ended, its end. One row at least, so that an answer without rows is
/// no answer.
const READ: &str = "\
SELECT log.seq, log.kind, log.ref, log.tenant_id, \
       (SELECT coalesce(max(seq), 0) FROM changes), (SELECT coalesce(min(seq), 0) FROM changes), \
       (SELECT kind || ' ' || ref || ' ' || at FROM changes WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1), \
       log.kind || ' ' || log.ref || ' ' || log.at, \
       CASE log.kind WHEN 'key' THEN (SELECT revoked_at FROM api_keys WHERE id = log.ref) END, \
       CASE log.kind WHEN 'tenant' THEN (SELECT status = 'suspended' FROM tenants WHERE id = log.ref) END, \
       CASE log.kind WHEN 'session' THEN EXISTS (SELECT 1 FROM session_bindings WHERE session_id = log.ref) END \
FROM (SELECT 1) LEFT JOIN (SELECT seq, kind, ref, tenant_id, at FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS log \
ON TRUE ORDER BY log.seq";

/// Where the reading stands.
#[derive(Debug, Default)]
struct Position {
    seq: i64,
    /// The entry at `seq`, to recognise the log by. `None` when the log was empty up to there.
    mark: Option<String>,
    /// Whether the log was ever read.
    begun: bool,
}

/// The feed of one replica.
#[derive(Debug)]
pub struct Feed<E, M> {
    engine: E,
    memory: M,
    clock: SharedClock,
    heard: Arc<Heard>,
    hub: Hub,
    patience: Duration,
    position: Mutex<Position>,
    events: Counter,
    start_overs: Counter,
}

/// When the feed was last heard.
#[derive(Debug, Default)]
pub struct Heard(AtomicU64);

impl Heard {
    /// When the feed was last heard, by the monotonic clock; `None` when it never was.
    #[must_use]
    pub fn last(&self) -> Option<Duration> {
        // Zero stands for never, so that moments are kept one millisecond later than they are.
        self.0.load(Ordering::Acquire).checked_sub(1).map(Duration::from_millis)
    }

    /// Whether the feed was heard within [`SILENCE`] of a moment of the monotonic clock.
    #[must_use]
    pub fn recently(&self, now: Duration) -> bool {
        self.last().is_some_and(|at| now.saturating_sub(at) <= SILENCE)
    }

    fn note(&self, at: Duration) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1);
        self.0.store(millis + 1, Ordering::Release);
    }
}

impl<E: Engine, M: Forget> Feed<E, M> {
    /// Reads the log through `engine`, makes `memory` forget, tells through `heard` that it did, and passes on through
    /// `hub` what it read. A read may take as long as any call may, `timeout`, or half a second.
    pub fn new(
        engine: E,
        memory: M,
        clock: SharedClock,
        heard: Arc<Heard>,
        hub: Hub,
        timeout: Duration,
    ) -> Self {
        Self {
            engine,
            memory,
            clock,
            heard,
            hub,
            patience: timeout.min(PATIENCE),
            position: Mutex::default(),
            events: Counter::default(),
            start_overs: Counter::default(),
        }
    }

    /// Where to listen to what it reads.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How many changes were read.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// How often the log did not go on from where it was read.
    pub fn start_overs(&self) -> u64 {
        self.start_overs.get()
    }

    /// Reads everything new, and only then counts as heard.
    ///
    /// # Errors
    /// When the database gives no complete answer; the position stays, and the next read starts there.
    pub async fn poll(&self) -> Result<(), StoreError> {
        let mut position = self.position.lock().await;
        loop {
            // From before the read: a change that commits during it may be missing from it.
            let at = self.clock.monotonic();
            // The first reading wants to know where the log ends, and nothing of what is in it.
            let after = if position.begun { position.seq } else { i64::MAX };
            let statement = Statement::new(READ).bind(after).bind(i64::try_from(MOST).unwrap_or(i64::MAX));
            let rows = self.engine.query(Call::within(Lane::Feed, self.patience), statement).await?;
            let news = Reading::read(&rows)?;
            let more = news.count == MOST;
            self.apply(&mut position, news);
            if !more {
                self.heard.note(at);
                self.hub.alive();
                return Ok(());
            }
        }
    }

    fn apply(&self, position: &mut Position, news: Reading) {
        let cut_off = news.oldest > position.seq + 1 && news.newest > position.seq;
        let another_log = news.newest < position.seq
            || (position.mark.is_some() && news.mark.is_some() && news.mark != position.mark);
        self.events.add(news.count as u64);
        if !position.begun {
            // What is in memory by now was read without anybody listening.
            self.memory.verify_all();
        } else if another_log || cut_off {
            self.start_overs.one();
            tracing::warn!(
                position = position.seq,
                oldest = news.oldest,
                newest = news.newest,
                "the change log does not go on from where it was read (restored, or pruned): memory is verified"
            );
            self.memory.verify_all();
        }
        if !another_log && position.begun && !news.about.is_empty() {
            self.memory.heard(&news.about);
        }
        // Memory first: whoever is told and asks at once must not get the old answer.
        let reached = Revision(news.last.as_ref().map_or(news.newest, |(seq, _)| *seq));
        if !position.begun {
            self.hub.started_over(reached, "the change log is read from here on");
        } else if another_log || cut_off {
            self.hub.started_over(reached, "the change log does not go on from where it was read");
        } else {
            self.hub.changed(news.changes, reached);
        }
        *position = match news.last {
            Some((seq, mark)) => Position { seq, mark: Some(mark), begun: true },
            None if another_log || !position.begun => {
                Position { seq: news.newest, mark: news.mark, begun: true }
            }
            None => Position { seq: position.seq, mark: news.mark, begun: true },
        };
    }
}

/// What one read told.
#[derive(Debug, Default)]
struct Reading {
    count: usize,
    last: Option<(i64, String)>,
    newest: i64,
    oldest: i64,
    mark: Option<String>,
    about: BySubject<News>,
    changes: Vec<Invalidation>,
}

impl Reading {
    fn read(rows: &[Row]) -> Result<Self, StoreError> {
        let Some(first) = rows.first() else {
            return Err(StoreError::new(FailureKind::Garbled, "the change log gave no row at all"));
        };
        let mut reading = Self {
            newest: first.integer(4)?,
            oldest: first.integer(5)?,
            mark: first.optional_text(6)?.map(str::to_owned),
            ..Self::default()
        };
        for row in rows {
            let Some(seq) = row.optional_integer(0)? else { continue };
            reading.count += 1;
            reading.last = Some((seq, row.text(7)?.to_owned()));
            reading.note(row, Revision(seq))?;
        }
        Ok(reading)
    }

    /// Of several changes of one subject the last one counts: its end, if it has one, is that of the moment of the read.
    fn note(&mut self, row: &Row, revision: Revision) -> Result<(), StoreError> {
        let news = |fate| News { fate, revision: Some(revision) };
        let (kind, id) = (row.text(1)?, row.text(2)?);
        let subject = match kind {
            "key" => {
                let revoked_at = row.optional_integer(8)?.map(UnixMillis);
                let Ok(id) = KeyId::parse(id) else { return Ok(()) };
                self.about.keys.insert(id.clone(), news(revoked_at.map_or(Fate::Changed, Fate::Revoked)));
                Subject::Key(id)
            }
            "tenant" => {
                let suspended = row.optional_integer(9)? == Some(1);
                let Ok(id) = TenantId::parse(id) else { return Ok(()) };
                self.about
                    .tenants
                    .insert(id.clone(), news(if suspended { Fate::Suspended } else { Fate::Changed }));
                Subject::Tenant(id)
            }
            "session" => {
                let bound = row.optional_integer(10)? == Some(1);
                let Ok(id) = SessionId::parse(id) else { return Ok(()) };
                self.about
                    .sessions
                    .insert(id.clone(), news(if bound { Fate::Changed } else { Fate::Unbound }));
                Subject::Session(id)
            }
            // Of a newer version: whatever it is about, no verdict here depends on it.
            _ => return Ok(()),
        };
        if let Ok(tenant) = TenantId::parse(row.text(3)?) {
            self.changes.push(Invalidation { revision, subject, tenant });
        }
        Ok(())
    }
}
