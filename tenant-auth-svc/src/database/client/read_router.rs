//! Sends reads to the read replica of the database, where it has a URL of its own, and everything else to the primary.
//!
//! A read that the read replica does not answer goes to the primary at once: a read replica that is down costs time and
//! never an answer. Which server a read goes to is decided by [`ReadRoute`].

use std::{sync::Arc, time::Instant};

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::{
        clock::SharedClock,
        known_database::{
            KnownDatabase,
            read_route::{ReadRoute, ReadSource},
        },
        store::{Call, LaneAttempts, LaneTimeouts, ReadFrom, StoreError},
    },
    instruments::counts::Counts,
};

/// Two engines: one for reads that may be a moment old, and one for everything else.
#[derive(Debug)]
pub struct ReadRouter<P, R> {
    primary: P,
    /// `None` if one URL serves reads and writes.
    read_replica: Option<R>,
    known_database: Arc<KnownDatabase>,
    clock: SharedClock,
    /// Timeouts of a validation's reads.
    lookup_timeouts: LaneTimeouts,
    /// Answered reads by source, and those that the read replica failed to answer.
    counts: Counts,
}

/// The slot of [`ReadRouter::fallbacks`], after those of the sources.
const FALLBACKS: usize = ReadSource::ALL.len();

impl<P: Engine, R: Engine> ReadRouter<P, R> {
    /// Routes reads as the `known_database` decides, if there is a read replica.
    pub fn new(
        primary: P,
        read_replica: Option<R>,
        known_database: Arc<KnownDatabase>,
        lookup_timeouts: LaneTimeouts,
        clock: SharedClock,
    ) -> Self {
        let counts = Counts::new(FALLBACKS + 1);
        Self { primary, read_replica, known_database, clock, lookup_timeouts, counts }
    }

    /// The engine of the primary.
    pub fn primary(&self) -> &P {
        &self.primary
    }

    /// The engine of the read replica, if it has a URL of its own.
    pub fn read_replica(&self) -> Option<&R> {
        self.read_replica.as_ref()
    }

    /// How many reads a source has answered.
    pub fn answered_reads(&self, source: ReadSource) -> u64 {
        self.counts.get(source as usize)
    }

    /// How many reads went to the primary because the read replica failed to answer them.
    pub fn fallbacks(&self) -> u64 {
        self.counts.get(FALLBACKS)
    }

    async fn read_at_primary(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        // Boxed, because the futures of all layers and of both servers would otherwise be one very large type.
        let outcome = Box::pin(self.primary.query(call, statement)).await;
        if outcome.is_ok() {
            self.counts.add(ReadSource::Primary as usize, 1);
        }
        outcome
    }

    async fn read_at_read_replica(
        &self,
        (engine, route): (&R, &ReadRoute),
        call: Call,
        statement: Statement,
    ) -> Result<Rows, StoreError> {
        let asked_at = self.clock.monotonic();
        let outcome = Box::pin(engine.query(call, statement)).await;
        match &outcome {
            Ok(_) => self.counts.add(ReadSource::ReadReplica as usize, 1),
            Err(error) if call.database_responds(Some(error.kind)) == Some(false) => {
                route.record_read_replica_failure(asked_at, self.clock.monotonic());
            }
            // The call was not sent, or shows nothing.
            Err(_) => {}
        }
        outcome
    }

    /// One attempt at the read replica, so that there is time left for the primary.
    fn attempt(&self, call: Call) -> Call {
        let timeouts = match call.lane.policy().attempts {
            LaneAttempts::Lookup => self.lookup_timeouts,
            LaneAttempts::Listing | LaneAttempts::Single => LaneTimeouts::LISTING.max(self.lookup_timeouts),
        };
        let deadline = Instant::now() + timeouts.attempt;
        Call {
            deadline: call.deadline.min(deadline),
            has_shortened_deadline: call.has_shortened_deadline || call.deadline < deadline,
            ..call
        }
    }
}

impl<P: Engine, R: Engine> Engine for ReadRouter<P, R> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let (Some(engine), Some(route)) = (&self.read_replica, self.known_database.read_route()) else {
            return self.read_at_primary(call, statement).await;
        };
        let source = match call.read_from {
            ReadFrom::ReadReplica => {
                return self.read_at_read_replica((engine, route), call, statement).await;
            }
            ReadFrom::Primary => ReadSource::Primary,
            ReadFrom::Nearest if statement.at_primary => ReadSource::Primary,
            ReadFrom::Nearest => route.source_for(call.lane, self.clock.monotonic()),
        };
        if source == ReadSource::Primary {
            return self.read_at_primary(call, statement).await;
        }
        let attempt = self.attempt(call);
        match self.read_at_read_replica((engine, route), attempt, statement.clone()).await {
            Err(_) => {
                self.counts.add(FALLBACKS, 1);
                self.read_at_primary(call, statement).await
            }
            outcome => outcome,
        }
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let outcomes = self.primary.transactions(call, transactions).await;
        if let Some(route) = self.known_database.read_route()
            && outcomes.iter().any(Result::is_ok)
        {
            route.record_write(call.lane, self.clock.monotonic());
        }
        outcomes
    }
}
