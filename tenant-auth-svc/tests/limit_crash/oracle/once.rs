//! Ids that count once, and reservations: as acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use tenant_auth_proto::v1::ReservationState;

use super::{Evidence, Findings};
use crate::{
    client::is_charged,
    client_log::{Call, Entry, Outcome, ReservationEnd},
    stored::ReservedLimit,
};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    let stored = &evidence.stored;
    let mut seen = BTreeSet::new();
    for entry in &evidence.entries {
        match &entry.call {
            Call::Consume => {}
            Call::ConsumeOnce(id) => {
                findings.check(seen.insert(id), || format!("{id} was admitted twice"));
                findings.check(!entry.is_admitted() || stored.consumed.contains(id), || {
                    format!("{id} is not stored")
                });
                check_not_taken(entry, stored.consumed.contains(id), findings);
            }
            Call::ConsumeAgain(id) => findings
                .check(entry.outcome == Outcome::AlreadyTaken, || format!("{id} was repeated: {entry:?}")),
            Call::Reserve(id) => {
                findings.check(seen.insert(id), || format!("{id} was reserved twice"));
                findings.check(stored.reserved.contains(id) == stored.reservations.contains_key(id), || {
                    format!("{id}: a reservation without its id, or an id without its reservation")
                });
                check_not_taken(entry, stored.reserved.contains(id), findings);
                check_reservation((evidence, entry), id, findings);
            }
        }
    }
    let unknown = stored.consumed.iter().chain(&stored.reserved).filter(|id| !seen.contains(id));
    findings.errors.extend(unknown.map(|id| format!("{id} is stored, and was never sent")));
    findings.check(stored.leases == 0, || format!("{} leases are stored", stored.leases));
}

/// What was denied in the first attempt is not stored; of several attempts, one may have been committed after the client gave
/// it up.
fn check_not_taken(entry: &Entry, is_stored: bool, findings: &mut Findings) {
    let is_uncertain = entry.attempts.iter().any(|attempt| !attempt.is_answered);
    findings.check(entry.is_admitted() || !is_stored || is_uncertain, || {
        format!("denied, but stored: {entry:?}")
    });
}

fn check_reservation((evidence, entry): (&Evidence, &Entry), id: &str, findings: &mut Findings) {
    let Some(rows) = evidence.stored.reservations.get(id) else {
        findings.check(!entry.is_admitted(), || format!("{id} is not stored"));
        return;
    };
    let tenant = &evidence.tenants[entry.tenant];
    let reserved: BTreeMap<_, _> = rows.iter().map(|row| (row.name.as_str(), row.amount)).collect();
    let costs = entry.costs.iter();
    let wanted: BTreeMap<_, _> = costs
        .flat_map(|(metric, cost)| tenant.limits_of(entry.key, metric).map(|limit| (limit.name, *cost)))
        .collect();
    findings.check(reserved == wanted, || format!("{id}: {rows:?} is stored of {wanted:?}"));
    findings
        .check(rows.iter().all(|row| is_ended_as(entry, id, row)), || format!("{entry:?}: stored {rows:?}"));
}

fn is_ended_as(entry: &Entry, id: &str, row: &ReservedLimit) -> bool {
    let expired = ("expired", if is_charged(id) { row.amount } else { 0 }, 0);
    let found = (row.state.as_str(), row.charged, row.exceeded_by);
    match &entry.end {
        None | Some(ReservationEnd::Cancelled(ReservationState::Expired)) => found == expired,
        Some(ReservationEnd::Cancelled(_)) => found == ("cancelled", 0, 0),
        Some(ReservationEnd::Settled(ReservationState::Settled, limits)) => {
            let acknowledged = limits.iter().find(|(name, ..)| *name == row.name);
            acknowledged.is_some_and(|(_, charged, exceeded)| found == ("settled", *charged, *exceeded))
        }
        Some(ReservationEnd::Settled(..)) => false,
    }
}
