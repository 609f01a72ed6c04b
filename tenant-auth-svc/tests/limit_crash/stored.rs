//! What the database has stored, read from its file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{database::query_rows, population::CounterId};

/// One window of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) counted: i64,
    pub(crate) leased: i64,
    pub(crate) reserved: i64,
    pub(crate) unaccounted: i64,
    pub(crate) credited: i64,
}

/// One limit of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReservedLimit {
    pub(crate) name: String,
    pub(crate) window_start: i64,
    pub(crate) amount: i64,
    pub(crate) charged: i64,
    pub(crate) exceeded_by: i64,
    pub(crate) state: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// By counter and start of the window.
    pub(crate) counters: BTreeMap<CounterId, BTreeMap<i64, Window>>,
    /// The ids of consumption and of reservations, as clients chose them.
    pub(crate) consumed: BTreeSet<String>,
    pub(crate) reserved: BTreeSet<String>,
    pub(crate) reservations: BTreeMap<String, Vec<ReservedLimit>>,
    /// Leases that are not ended.
    pub(crate) leases: usize,
}

impl Stored {
    pub(crate) async fn read(file: &Path) -> Self {
        let mut stored = Self::default();
        let counters = "SELECT tenant_id, key_id, name, window_start, counted, leased, reserved, unaccounted, credited \
                        FROM limit_counters";
        for row in query_rows(file, counters).await {
            let number = |column: usize| row[column].parse::<i64>().unwrap();
            let window = Window {
                counted: number(4),
                leased: number(5),
                reserved: number(6),
                unaccounted: number(7),
                credited: number(8),
            };
            let id = (row[0].clone(), row[1].clone(), row[2].clone());
            stored.counters.entry(id).or_default().insert(number(3), window);
        }
        for row in query_rows(file, "SELECT id FROM limit_ids").await {
            // Callers without names, as these, have nothing before the separator.
            let (purpose, id) = row[0].split_once(":\u{1f}").unwrap();
            let ids = if purpose == "consume" { &mut stored.consumed } else { &mut stored.reserved };
            ids.insert(id.to_owned());
        }
        let reservations =
            "SELECT id, name, window_start, amount, charged, exceeded_by, state FROM limit_reservations";
        for row in query_rows(file, reservations).await {
            let number = |column: usize| row[column].parse::<i64>().unwrap();
            stored.reservations.entry(row[0].trim_start_matches('\u{1f}').to_owned()).or_default().push(
                ReservedLimit {
                    name: row[1].clone(),
                    window_start: number(2),
                    amount: number(3),
                    charged: number(4),
                    exceeded_by: number(5),
                    state: row[6].clone(),
                },
            );
        }
        stored.leases = count(file, "SELECT count(*) FROM limit_leases WHERE amount > 0").await;
        stored
    }
}

/// Returns the number that a query counts.
pub(crate) async fn count(file: &Path, sql: &str) -> usize {
    query_rows(file, sql).await[0][0].parse().unwrap()
}
