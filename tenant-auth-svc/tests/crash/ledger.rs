//! Compares acknowledged with stored usage.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use libsql::Builder;
use tenant_auth_proto::v1;

use crate::{database::query_rows, process::WAIT_TIMEOUT};

/// Tenant and metric.
pub(crate) type Account = (String, String);
pub(crate) type Sums = BTreeMap<Account, i64>;

/// The counted usage of each request, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) requests: BTreeMap<String, Sums>,
    pub(crate) events: usize,
}

/// The differences between two ledgers. Every line is an error.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Acknowledged, but not stored or not completely.
    pub(crate) lost: Vec<String>,
    /// Stored more than once, or more than was acknowledged.
    pub(crate) duplicated: Vec<String>,
}

impl Ledger {
    pub(crate) fn add_acknowledged(&mut self, request: v1::RecordUsageRequest) {
        let sums = self.requests.entry(request.request_id).or_default();
        for event in request.events {
            *sums.entry((event.tenant_id, event.metric)).or_default() += event.quantity;
            self.events += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.requests.extend(other.requests);
        self.events += other.events;
    }

    /// Reads the contents of a database file.
    pub(crate) async fn read_stored(file: &Path) -> Self {
        let mut ledger = Self::default();
        for row in query_rows(file, "SELECT request_id FROM usage_requests").await {
            ledger.requests.insert(row[0].clone(), Sums::new());
        }
        let events = "SELECT requests.request_id, events.tenant_id, events.metric, events.quantity \
                      FROM usage_events AS events LEFT JOIN usage_requests AS requests ON requests.seq = events.request";
        for row in query_rows(file, events).await {
            let sums = ledger.requests.entry(row[0].clone()).or_default();
            *sums.entry((row[1].clone(), row[2].clone())).or_default() += row[3].parse::<i64>().unwrap();
            ledger.events += 1;
        }
        ledger
    }

    /// Returns the totals by tenant and metric.
    pub(crate) fn totals(&self) -> Sums {
        let mut totals = Sums::new();
        for (account, quantity) in self.requests.values().flatten() {
            *totals.entry(account.clone()).or_default() += quantity;
        }
        totals
    }

    /// Compares acknowledged with stored usage, request by request, and with the totals that callers read.
    pub(crate) fn compare(&self, stored: &Self, reported: &Sums) -> Differences {
        let mut differences = Differences::default();
        let nothing = Sums::new();
        for id in all_keys(&self.requests, &stored.requests) {
            let of = |ledger: &Self| ledger.requests.get(id).unwrap_or(&nothing).clone();
            differences.add_difference(&format!("request {id:?}"), &of(self), &of(stored));
            if !stored.requests.contains_key(id) {
                differences.lost.push(format!("request {id:?} itself"));
            } else if !self.requests.contains_key(id) {
                differences.duplicated.push(format!("request {id:?} itself"));
            }
        }
        differences.add_difference("total stored", &self.totals(), &stored.totals());
        differences.add_difference("total reported", &self.totals(), reported);
        differences
    }
}

impl Differences {
    fn add_difference(&mut self, what: &str, acknowledged: &Sums, found: &Sums) {
        for account in all_keys(acknowledged, found) {
            let of = |sums: &Sums| sums.get(account).copied().unwrap_or_default();
            let (acknowledged, found) = (of(acknowledged), of(found));
            let line = format!("{what}, {account:?}: acknowledged {acknowledged}, found {found}");
            if found < acknowledged {
                self.lost.push(line);
            } else if found > acknowledged {
                self.duplicated.push(line);
            }
        }
    }
}

fn all_keys<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    one.keys().chain(other.keys()).collect()
}

/// Runs a statement directly on the file.
pub(crate) async fn execute_in_file(file: &Path, sql: &str) -> u64 {
    let database = Builder::new_local(file).build().await.unwrap();
    let connection = database.connect().unwrap();
    connection.busy_timeout(WAIT_TIMEOUT).unwrap();
    connection.execute(sql, ()).await.unwrap()
}
